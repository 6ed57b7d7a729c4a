"""Paint Pixel Reward: paint on the pictures where they are good and where they are bad."""

from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
import torch
from comfy_api.latest import io

from ..pxpo_core.painting import (
    Feedback,
    MarksInvalid,
    PaintFolder,
    ShownPicture,
    encode_map,
    painted_feedback,
    prune,
    read_marks,
    were_shown,
)
from .paint_wait import ask
from .types import CATEGORY, Reward, advanced

PaintMarks = io.Custom("PXPO_PAINT")
MASK_MEANINGS = ["like", "dislike"]
WAITS = ["off", "until answered"]
NO_ANSWERS = ["go on", "stop the run"]
WAIT_MINUTES = 60.0
LONGEST_WAIT = 7 * 24 * 60.0


class PaintReward(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_PaintReward",
            display_name="Paint Pixel Reward",
            category=CATEGORY,
            description="Run, paint on the pictures what you like (blue) and dislike (orange), and "
            "run again: the LoRA learns from it. Press ? in the node for all keys.",
            inputs=[
                io.Image.Input("image", tooltip="The decoded pictures of the rollout."),
                # Optional, so that an API call may leave it out and use a mask alone. Nothing can
                # be wired to it, and a socket beside the canvas would only be in the way.
                PaintMarks.Input("marks", optional=True, extra_dict={"socketless": True}),
                io.Combo.Input(
                    "mask_means",
                    options=MASK_MEANINGS,
                    default=MASK_MEANINGS[0],
                    tooltip="What the white parts of a connected mask say.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Feedback to start from. One press shows it, the next one learns from "
                    "it, with what you have painted over it.",
                ),
                # Optional, which puts them behind the marks: saved values are read by position.
                advanced(
                    io.Combo.Input(
                        "wait",
                        options=WAITS,
                        default=WAITS[0],
                        optional=True,
                        tooltip="until answered: the run stops here until you press Continue on "
                        "the node, and then learns at once.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "wait_minutes",
                        default=WAIT_MINUTES,
                        min=0.05,
                        max=LONGEST_WAIT,
                        step=1.0,
                        round=0.01,
                        optional=True,
                        tooltip="How long the run waits.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "no_answer",
                        options=NO_ANSWERS,
                        default=NO_ANSWERS[0],
                        optional=True,
                        tooltip="When the time is over, or no web page is open: go on with the "
                        "marks there are, or stop the run.",
                    )
                ),
            ],
            outputs=[
                Reward.Output(display_name="reward"),
                io.Mask.Output(display_name="like"),
                io.Mask.Output(display_name="dislike"),
                io.Image.Output(display_name="image"),
            ],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def validate_inputs(cls, marks: object = None) -> bool | str:
        """Said when Run is pressed."""
        try:
            read_marks(marks)
        except MarksInvalid as error:
            return str(error)
        return True

    @classmethod
    def fingerprint_inputs(
        cls, marks: object = None, wait: str = WAITS[0], **others: object
    ) -> str | float:
        """A map file that appears later, or a picture list that is gone, counts as a change.

        So does a batch shown since: a connected mask (which arrives as None) counts from then on.
        """
        if wait != WAITS[0]:
            return float("nan")  # every press asks again
        folder = _folder()
        try:
            checked = read_marks(marks)
        except MarksInvalid:
            return "invalid"
        shown = ""
        if checked.node is not None:
            thumbs = folder.shown_thumbs(checked.node)
            shown = "".join(thumbs) if "mask" in others else str(bool(thumbs))
        here = (m.map is not None and folder.has_map(m.map) for m in checked.marks)
        return shown + "".join(str(int(flag)) for flag in here)

    @classmethod
    async def execute(
        cls,
        image: torch.Tensor,
        mask_means: str,
        marks: object = None,
        mask: torch.Tensor | None = None,
        wait: str = WAITS[0],
        wait_minutes: float = WAIT_MINUTES,
        no_answer: str = NO_ANSWERS[0],
    ) -> io.NodeOutput:
        folder = _folder()
        checked = read_marks(marks)
        sign = 1.0 if mask_means == MASK_MEANINGS[0] else -1.0
        counts = mask is None or _mask_counts(image, checked.node, wait, folder)
        feedback = painted_feedback(image, checked, folder, mask, sign, counts)
        ui: dict[str, Any] = {}
        unanswered = ""
        if checked.node is not None:  # without a widget there is nobody to ask
            shown = _shown(checked.node, image, feedback, folder)
            if wait != WAITS[0]:
                answer = await ask(folder, checked.node, shown, wait_minutes)
                if answer.marks is not None:
                    feedback = painted_feedback(image, answer.marks, folder, mask, sign)
                    shown = _shown(checked.node, image, feedback, folder)
                elif no_answer != NO_ANSWERS[0]:
                    raise comfy.model_management.InterruptProcessingException
                else:
                    unanswered = f"{answer.why}: went on. "
            ui["pxpo_paint"] = [shown]
        ui["text"] = [unanswered + _status(feedback)]
        values = feedback.reward.map
        return io.NodeOutput(
            feedback.reward, values.clamp(min=0.0), (-values).clamp(min=0.0), image, ui=ui
        )


def _folder() -> PaintFolder:
    return PaintFolder(Path(folder_paths.get_input_directory()) / "pxpo")


def _mask_counts(image: torch.Tensor, node: str | None, wait: str, folder: PaintFolder) -> bool:
    """A person may correct a mask before it is learned from; a new batch nobody has seen yet."""
    return node is None or wait != WAITS[0] or were_shown(image, node, folder)


def _shown(
    node: str, image: torch.Tensor, feedback: Feedback, folder: PaintFolder
) -> dict[str, Any]:
    """Save the batch for the widget, and say which picture has which mark."""
    pictures = []
    for picture, thumb, start, mark in zip(
        image, feedback.thumbs, feedback.starts, feedback.marks, strict=True
    ):
        height, width = picture.shape[:2]
        pictures.append(
            ShownPicture(
                picture=folder.save_picture(node, picture),
                thumb=folder.save_thumb(thumb),
                width=width,
                height=height,
                start=None if start is None else folder.save_map(encode_map(start)),
                mark=None if mark is None else mark.thumb,
            )
        )
    known = folder.batches(node)[:1]
    entry = folder.show(node, pictures)
    if known != [entry]:
        prune(folder)
    return {**entry, "node": node, "kept": feedback.kept, "missing": feedback.missing}


def _status(feedback: Feedback) -> str:
    reward = feedback.reward
    if reward.marked:
        return f"Marks on {reward.marked_images} of {reward.batch} pictures."
    if not reward.reviewed.any() and any(start is not None for start in feedback.starts):
        return "The mask is on the pictures. Correct it, and press Run again to learn from it."
    if feedback.missing:
        return "No feedback here yet: the files of earlier marks are not on this computer."
    if feedback.kept:
        return "Marks kept for the previous batch. Nothing painted on these pictures yet."
    return "Nothing painted yet."
