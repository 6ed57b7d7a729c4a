"""Which LoRA file a new run starts from."""

import os
from pathlib import Path
from typing import Any

import folder_paths

from ..pxpo_core.backends.comfy.lora_files import read_model_lora
from ..pxpo_core.lora import LoRAConfig, Policy, new_policy
from ..pxpo_core.lora_file import LoRAFileError
from ..pxpo_core.lora_start import start_from

NOTHING = "none"


def lora_names() -> list[str]:
    """What a run can start from: nothing, or a file that the host lists among the LoRAs."""
    files = folder_paths.get_filename_list("loras")
    return [NOTHING, *(name for name in files if name.lower().endswith(".safetensors"))]


def check_lora_name(name: str) -> None:
    """Raise LoRAFileError unless the host lists the file; a shared workflow may name any."""
    if name != NOTHING and name not in lora_names():
        raise LoRAFileError(
            f"start_from: {str(name)!r:.120} is not among your LoRAs. Copy the file into the loras "
            "folder and press R, or set start_from to none."
        )


def stamp(name: str) -> str:
    """Changes when the file does."""
    if name == NOTHING or name not in lora_names():
        return ""
    path = folder_paths.get_full_path("loras", name)
    return f" {os.stat(path).st_mtime_ns}" if path else ""


def first_policy(model: Any, config: LoRAConfig, name: str) -> tuple[Policy, str]:
    """The policy of a run without rounds, and what to say of it. Raises LoRAFileError."""
    network = model.model.diffusion_model
    if name == NOTHING:
        return new_policy(network, config), "nothing learned yet"
    check_lora_name(name)
    path = folder_paths.get_full_path("loras", name)
    try:
        loaded = read_model_lora(Path(path), model)
        policy = start_from(loaded.policy, network, config)
    except LoRAFileError as error:
        raise LoRAFileError(f"The run cannot start from {name}: {error}") from None
    except ValueError as error:
        raise LoRAFileError(f"The run cannot start from {name}: it {error}") from None
    said = f"it starts from {name}"
    if loaded.text_encoder:
        said += (
            ", without its part for the text encoder: put Load LoRA with strength_model 0 on the "
            "CLIP to keep that part"
        )
    return policy, said
