"""How LoRA files name their tensors.

kohya       lora_unet_<diffusers name, dots as _>.lora_down.weight / .lora_up.weight / .alpha:
            ComfyUI, A1111, Forge and diffusers load it. SD1.5- and SDXL-type UNets only.
generic     diffusion_model.<module>.lora_down.weight ...: ComfyUI, any architecture.
diffusers   unet.<diffusers name>.lora_A.weight / .lora_B.weight (PEFT): for Python; no alpha, so
            the scale lora_alpha / r is inside lora_B.
"""

from typing import Literal

from torch import Tensor

from ..lora import Policy
from .errors import LoRAFileError
from .unet_names import UNetNames

KeyFormat = Literal["kohya", "generic", "diffusers"]

DOWN, UP = ".lora_down.weight", ".lora_up.weight"
ALPHA = ".alpha"
_PEFT_DOWN, _PEFT_UP = ".lora_A.weight", ".lora_B.weight"


def automatic_format(names: UNetNames | None) -> KeyFormat:
    """The format most programs load for this architecture."""
    return "generic" if names is None else "kohya"


def file_tensors(
    policy: Policy, key_format: KeyFormat, names: UNetNames | None
) -> dict[str, Tensor]:
    """Float32 tensors under the format's names. names: of the model's UNet; None: it is no UNet.

    Raises LoRAFileError when the format cannot express the model's layers.
    """
    if key_format == "generic":
        return policy.state_dict()
    if names is None:
        raise LoRAFileError(
            f"The {key_format} format is for UNets such as SD1.5 and SDXL. Choose the format "
            "automatic for this model."
        )
    if key_format == "kohya":
        return _renamed(policy, {layer: _kohya(layer, names) for layer in policy.layers})
    tensors: dict[str, Tensor] = {}
    for layer in policy.layers:
        name = names.diffusers(layer)
        if name is None:
            raise LoRAFileError(f"diffusers has no layer {layer}. Choose the format automatic.")
        down, up = _pair(policy, layer)
        tensors[f"unet.{name}{_PEFT_DOWN}"] = down.clone()
        tensors[f"unet.{name}{_PEFT_UP}"] = up * policy.config.scaling
    return tensors


def _kohya(layer: str, names: UNetNames) -> str:
    name = names.diffusers(layer)
    # Readers know SDXL's label embedding by its LDM name only; the host accepts both.
    if name is None or name.startswith("add_embedding"):
        name = layer
    return f"lora_unet_{name.replace('.', '_')}"


def _renamed(policy: Policy, names: dict[str, str]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    state = policy.state_dict("")
    for layer, name in names.items():
        for part in (DOWN, UP, ALPHA):
            tensors[name + part] = state[layer + part]
    return tensors


def _pair(policy: Policy, layer: str) -> tuple[Tensor, Tensor]:
    return policy.tensors[layer + DOWN], policy.tensors[layer + UP]
