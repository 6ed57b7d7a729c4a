"""LoRA files of ComfyUI models: which names and which architecture a MODEL has."""

from pathlib import Path
from typing import TYPE_CHECKING

import comfy.lora

from ...lora import STATE_PREFIX, layer_shapes
from ...lora_file import (
    Architecture,
    LoadedLoRA,
    LoRAFileError,
    Place,
    UNetNames,
    read_lora,
    unet_names,
)

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_WEIGHT = ".weight"
_KNOWN = {
    "SD15": Architecture("stable-diffusion-v1", "sd_v1", "512x512"),
    "SDXL": Architecture("stable-diffusion-xl-v1-base", "sdxl_base_v1-0", "1024x1024"),
    "Flux": Architecture("flux-1-dev", "flux1", "1024x1024"),
}
"""By the host's class of the model; any other class gives its own name."""


def architecture(model: "ModelPatcher") -> Architecture:
    """What a LoRA file for this model is said to be for."""
    name = type(model.model.model_config).__name__
    return _KNOWN.get(name, Architecture(name.lower(), name.lower()))


def model_unet_names(model: "ModelPatcher") -> UNetNames | None:
    """diffusers' names for the model's layers; None when it is no standard UNet."""
    return unet_names(model.model.model_config.unet_config)


def read_model_lora(path: Path, model: "ModelPatcher", folder: Path | None = None) -> LoadedLoRA:
    """A LoRA file for this model, as a policy. Raises LoRAFileError; see `read_lora`."""
    try:
        shapes = layer_shapes(model.model.diffusion_model)
    except ValueError as error:
        raise LoRAFileError(str(error)) from None
    return read_lora(path, shapes, model_unet_names(model), folder, _host_names(model))


def _host_names(model: "ModelPatcher") -> dict[str, Place]:
    """What the host's own loader calls the model's layers: more for SD3, Flux and newer models."""
    places: dict[str, Place] = {}
    for name, key in comfy.lora.model_lora_keys_unet(model.model, {}).items():
        key, rows = key if isinstance(key, tuple) and len(key) == 2 else (key, (0, 0, 0))
        if isinstance(key, str) and key.endswith(_WEIGHT) and rows[0] == 0:
            layer = key.removeprefix(STATE_PREFIX).removesuffix(_WEIGHT)
            places[name] = Place(layer, int(rows[1]), int(rows[2]))
    return places
