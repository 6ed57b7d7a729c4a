"""Save PXPO LoRA: a run's LoRA as a file that other programs load."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy_api.latest import io

from ..pxpo_core.backends.comfy.lora_files import architecture, model_unet_names
from ..pxpo_core.backends.comfy.policy_model import RunIdentity, policy_of
from ..pxpo_core.lora import Policy, layer_shapes
from ..pxpo_core.lora_file import LoRAInfo, SavedLoRA, policy_from_tensors, save_lora
from ..pxpo_core.lora_file.keys import automatic_format
from ..pxpo_core.lora_file.metadata import CONFIG_KEY, MAX_TEXT
from ..pxpo_core.lora_file.write import DTYPES
from ..pxpo_core.run import RunError, validate_run_name
from .runs import run_store
from .types import CATEGORY, advanced

AUTOMATIC = "automatic"
FORMATS = [AUTOMATIC, "diffusers"]


class SaveLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_SaveLoRA",
            display_name="Save PXPO LoRA",
            category=CATEGORY,
            description="Saves the trained LoRA into the folder that Load LoRA reads. Each round "
            "gets a file of its own; nothing is ever overwritten.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="From PXPO Update LoRA or Training Run: its LoRA is saved.",
                ),
                io.String.Input(
                    "file_name",
                    default="",
                    tooltip="Empty: the run's name. The round is added, as in hair_r0007.",
                ),
                io.Combo.Input(
                    "format",
                    options=FORMATS,
                    default=AUTOMATIC,
                    tooltip="automatic: loads in ComfyUI, and for SD1.5 and SDXL also in Forge, "
                    "A1111 and diffusers. diffusers: PEFT names for Python; ComfyUI cannot load "
                    "them.",
                ),
                io.Combo.Input(
                    "dtype",
                    options=list(DTYPES),
                    default="float32",
                    tooltip="float32 is exact. The others make files half as large.",
                ),
                advanced(
                    io.String.Input(
                        "description",
                        default="",
                        multiline=True,
                        tooltip="Kept in the file, for people who look at its metadata.",
                    )
                ),
                io.LoraModel.Input(
                    "lora",
                    optional=True,
                    tooltip="Saves this one instead of the model's: the lora of PXPO Update LoRA.",
                ),
            ],
            outputs=[],
            is_output_node=True,
            not_idempotent=True,
        )

    @classmethod
    def validate_inputs(cls, file_name: str | None) -> bool | str:
        """Said when Run is pressed. A linked widget arrives as None."""
        try:
            if file_name:
                validate_run_name(file_name)
        except RunError as error:
            return str(error).replace("a run name", "a file name")
        return True

    @classmethod
    def execute(
        cls,
        model: Any,
        file_name: str,
        format: str,
        dtype: str,
        description: str,
        lora: Mapping[str, torch.Tensor] | None = None,
    ) -> io.NodeOutput:
        policy, run = _what_to_save(model, lora)
        if run is not None and run.round == 0:
            return _said("This LoRA has learned nothing yet: no file was written.")
        if not file_name and run is None:
            raise ValueError("This LoRA belongs to no training run. Type a file name.")
        stem = validate_run_name(file_name or run.name)
        if run is not None:
            stem += f"_r{run.round:04d}"
        names = model_unet_names(model)
        info = LoRAInfo(stem, architecture(model), description=description[:MAX_TEXT])
        if run is not None:
            info = _with_run(info, run)
        key_format = automatic_format(names)
        if format != AUTOMATIC:
            key_format, stem = "diffusers", f"{stem}_diffusers"
        folder = lora_folder()
        saved = save_lora(folder, stem, policy, info, key_format, names, DTYPES[dtype])
        return _said(_report(saved, key_format, dtype))


def lora_folder() -> Path:
    """Where LoRAs are saved: output/loras, which the host searches too, else its first folder."""
    folders = [Path(folder) for folder in folder_paths.get_folder_paths("loras")]
    wanted = Path(folder_paths.get_output_directory()) / "loras"
    return wanted if wanted in folders or not folders else folders[0]


def _what_to_save(
    model: Any, lora: Mapping[str, torch.Tensor] | None
) -> tuple[Policy, RunIdentity | None]:
    """The LoRA, and where it stands in a run; None when it is not the model's own."""
    attachment = policy_of(model)
    if lora is None:
        if attachment is None:
            raise ValueError(
                "This model carries no PXPO LoRA. Connect the model of PXPO Update LoRA or of PXPO "
                "Training Run."
            )
        return attachment.policy, attachment.run
    # The settings of the model's run make the same LoRA recognisable as that run's.
    known = {} if attachment is None else attachment.policy.config.to_dict()
    shapes = layer_shapes(model.model.diffusion_model)
    policy = policy_from_tensors(
        lora, shapes, model_unet_names(model), {CONFIG_KEY: json.dumps(known)}
    )
    same = attachment is not None and attachment.policy.digest == policy.digest
    return policy, attachment.run if same else None


def _with_run(info: LoRAInfo, run: RunIdentity) -> LoRAInfo:
    """Adds what the run's folder tells; a run that is gone or damaged tells its name only."""
    info = replace(info, run=run.name, run_uuid=run.uuid, round=run.round)
    store = run_store()
    try:
        if store.uuid(run.name) != run.uuid:
            return info
        history = store.history(run.name)[: run.round]
        thumbnail = store.thumbnail(run.name, run.round)
    except RunError:
        return info
    size = history[-1].get("size") if history else None
    marked = [entry["marked_images"] for entry in history if "marked_images" in entry]
    return replace(
        info,
        images=sum(int(entry.get("images", 0)) for entry in history),
        marked_images=sum(marked) if len(marked) == len(history) else None,
        resolution=f"{size[0]}x{size[1]}" if size else None,
        thumbnail=thumbnail,
    )


def _report(saved: SavedLoRA, key_format: str, dtype: str) -> str:
    if not saved.new:
        return f"{saved.path.name} holds this LoRA already: nothing was written."
    text = (
        f"Saved {saved.path.name} ({saved.bytes / 1e6:.1f} MB, {key_format} keys, {dtype}) in "
        f"{saved.path.parent}."
    )
    if key_format == "diffusers":
        return text + " It is for diffusers; ComfyUI cannot load it."
    return text + " Press R to see it in Load LoRA."


def _said(text: str) -> io.NodeOutput:
    return io.NodeOutput(ui={"text": [text]})
