"""How LoRA files name their tensors.

kohya       lora_unet_<diffusers name, dots as _>.lora_down.weight / .lora_up.weight / .alpha:
            ComfyUI, A1111, Forge and diffusers load it. SD1.5- and SDXL-type UNets only.
generic     diffusion_model.<module>.lora_down.weight ...: ComfyUI, any architecture.
diffusers   unet.<diffusers name>.lora_A.weight / .lora_B.weight (PEFT): for Python; no alpha, so
            the scale lora_alpha / r is inside lora_B.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from torch import Tensor

from ..lora import Policy
from .errors import LoRAFileError
from .unet_names import UNetNames

KeyFormat = Literal["kohya", "generic", "diffusers"]

DOWN = (".lora_down.weight", ".lora_A.weight")
UP = (".lora_up.weight", ".lora_B.weight")
ALPHA = ".alpha"


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
        tensors[f"unet.{name}{DOWN[1]}"] = down.clone()
        tensors[f"unet.{name}{UP[1]}"] = up * policy.config.scaling
    return tensors


def known_names(layers: Iterable[str], names: UNetNames | None) -> dict[str, str]:
    """What a file may call each layer of the model -> the layer."""
    table: dict[str, str] = {}
    for layer in layers:
        for name in _spellings(layer, names):
            table[name] = layer
    return table


def _spellings(layer: str, names: UNetNames | None) -> Iterator[str]:
    yield f"diffusion_model.{layer}"
    yield f"lora_unet_{layer.replace('.', '_')}"
    name = names.diffusers(layer) if names is not None else None
    if name is not None:
        yield f"lora_unet_{name.replace('.', '_')}"
        yield f"unet.{name}"


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
        for part in (DOWN[0], UP[0], ALPHA):
            tensors[name + part] = state[layer + part]
    return tensors


def _pair(policy: Policy, layer: str) -> tuple[Tensor, Tensor]:
    return policy.tensors[layer + DOWN[0]], policy.tensors[layer + UP[0]]
