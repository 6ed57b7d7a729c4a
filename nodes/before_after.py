"""Before / After: the same seeds with the LoRA off and on, side by side, and what changed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..pxpo_core.backends.comfy.policy_model import (
    PolicyAttachment,
    detach_policy,
    policy_of,
    without_patches,
)
from ..pxpo_core.backends.comfy.session import sample
from ..pxpo_core.difference import difference, difference_heatmap, difference_scale
from ..pxpo_core.lora import LoRALayers, Policy
from ..pxpo_core.picture_grid import Column, labelled_grid
from ..pxpo_core.run import RunError
from .progress import Progress
from .runs import run_store
from .sampling import (
    cfg_widget,
    denoise_widget,
    eta_widget,
    prepare,
    preview_callback,
    schedule,
    scheduler_widget,
    seed_widget,
    steps_widget,
)
from .types import CATEGORY

MOST_ROUNDS = 12
OFF, ON = (113, 113, 122), (59, 130, 246)


class BeforeAfter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_BeforeAfter",
            display_name="Before / After",
            category=CATEGORY,
            description="Samples the same seeds with the LoRA off and on, or after chosen rounds "
            "of its run, and shows them side by side with a heatmap of what changed.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From PXPO Update LoRA or PXPO Training Run, or any model with a LoRA.",
                ),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Latent.Input("latent_image", tooltip="One row of the grid for each."),
                io.Vae.Input("vae"),
                seed_widget("Keep it, to compare the same pictures after every round."),
                steps_widget(),
                cfg_widget(),
                scheduler_widget(),
                io.String.Input(
                    "rounds",
                    default="",
                    tooltip="Empty: off and on. Or rounds of the run, such as 0, 3, 7; 0 is off.",
                ),
                eta_widget("Share of fresh noise per step; the same noise in every column."),
                denoise_widget(),
            ],
            outputs=[
                io.Image.Output(display_name="grid"),
                io.Image.Output(display_name="difference"),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def validate_inputs(cls, rounds: str | None) -> bool | str:
        """Said when Run is pressed. A linked widget arrives as None."""
        try:
            parse_rounds(rounds or "")
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent_image: Mapping[str, Any],
        vae: Any,
        seed: int,
        steps: int,
        cfg: float,
        scheduler: str,
        rounds: str,
        eta: float,
        denoise: float,
    ) -> io.NodeOutput:
        versions = _versions(model, parse_rounds(rounds))
        sigmas = schedule(versions[0].model, scheduler, steps, denoise)
        job, noises = prepare(
            versions[0].model, positive, negative, latent_image, cfg, sigmas, seed, 0
        )
        total = len(versions) * (len(sigmas) - 1)
        progress = Progress(cls.hidden.unique_id, "Sampling step", total)
        pictures = []
        for i, version in enumerate(versions):
            layers = None
            if version.policy is not None:
                layers = LoRALayers(version.policy, version.model.load_device)
            callback = preview_callback(version.model, progress, total, i * (len(sigmas) - 1))
            latent, _ = sample(replace(job, model=version.model), layers, eta, noises, callback)
            pictures.append(_decode(vae, latent))
        changes = difference(pictures[0], pictures[-1])
        scale = difference_scale(changes)
        heatmap = difference_heatmap(pictures[0], changes, scale)
        grid = labelled_grid(
            [
                *(
                    Column(version.title, version.note, images, version.accent)
                    for version, images in zip(versions, pictures, strict=True)
                ),
                Column("Difference", f"0 to {100 * scale:.0f} %", heatmap, None),
            ]
        )
        saved = ui.PreviewImage(grid, cls=cls).as_dict()
        text = _status(versions, changes)
        return io.NodeOutput(grid, heatmap, ui={"images": saved["images"], "text": [text]})


@dataclass(frozen=True)
class Version:
    """One column: a model, the policy to attach while sampling (None: none), and its words."""

    title: str
    note: str
    model: Any
    policy: Policy | None
    accent: tuple[int, int, int]


def parse_rounds(text: str) -> tuple[int, ...]:
    """Round numbers in a text such as "0, 3, 7"; empty for an empty text."""
    words = text.replace(",", " ").split()
    if not all(word.isascii() and word.isdigit() and len(word) <= 4 for word in words):
        raise ValueError(f"rounds must be numbers such as 0, 3, 7, got {text!r:.80}.")
    rounds = tuple(dict.fromkeys(int(word) for word in words))
    if len(rounds) == 1 or len(rounds) > MOST_ROUNDS:
        raise ValueError(
            f"rounds needs 2 to {MOST_ROUNDS} different numbers, or nothing, got {text!r:.80}."
        )
    return rounds


def _versions(model: Any, rounds: Sequence[int]) -> list[Version]:
    """What to compare; at least two."""
    attachment = policy_of(model)
    if attachment is not None:
        base = detach_policy(model)
        if rounds:
            return [_round(attachment, base, number) for number in rounds]
        return [_off(base), _newest(attachment, base)]
    if rounds:
        raise ValueError(
            "Rounds can be compared for the model of a training run only. Connect PXPO Training "
            "Run, or leave rounds empty."
        )
    if not model.patches:
        raise ValueError("There is nothing to compare: this model has no LoRA.")
    return [
        _off(without_patches(model)),
        Version("LoRA on", "", model, None, ON),
    ]


def _round(attachment: PolicyAttachment, base: Any, number: int) -> Version:
    run = attachment.run
    if number == 0:
        return _off(base)
    if number == run.round:
        return _newest(attachment, base)
    store = run_store()
    if store.uuid(run.name) != run.uuid:
        raise RunError(f"Run {run.name} was deleted or replaced since this model was made.")
    return Version(f"Round {number}", run.name, base, store.policy(run.name, number), ON)


def _off(base: Any) -> Version:
    return Version("LoRA off", "", base, None, OFF)


def _newest(attachment: PolicyAttachment, base: Any) -> Version:
    """The policy the model came with; before round 1 that may be a LoRA file's."""
    run = attachment.run
    title = f"Round {run.round}" if run.round else "Start"
    return Version(title, run.name, base, attachment.policy, ON)


def _decode(vae: Any, latent: torch.Tensor) -> torch.Tensor:
    images: torch.Tensor = vae.decode(latent)
    return images.reshape(-1, *images.shape[-3:]).cpu().float()


def _status(versions: Sequence[Version], changes: torch.Tensor) -> str:
    if not bool(changes.any()):
        return "The pictures are the same: the LoRA has changed nothing yet."
    per_image = changes.mean(dim=(1, 2))
    text = f"{versions[0].title} → {versions[-1].title}: mean change {100 * per_image.mean():.1f} %"
    if len(per_image) > 1:
        most = int(per_image.argmax())
        text += f", most in image {most + 1} ({100 * per_image[most]:.1f} %)"
    return text + "."
