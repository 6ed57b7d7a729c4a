"""What LoRA files of other programs call a model's layers and the parts of a LoRA.

As the host's own loader does: kohya, diffusers (PEFT, and the older attention processors), PEFT's
adapter files, LyCORIS' plain LoRA, and the model's own names.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from .unet_names import UNetNames

PARTS = {
    ".lora_down.weight": "down",
    ".lora_up.weight": "up",
    ".lora_A.weight": "down",
    ".lora_B.weight": "up",
    ".lora_A.default.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora.down.weight": "down",
    ".lora.up.weight": "up",
    ".lora_linear_layer.down.weight": "down",
    ".lora_linear_layer.up.weight": "up",
    "_lora.down.weight": "down",
    "_lora.up.weight": "up",
    ".alpha": "alpha",
}
"""How a tensor's name ends, and which part of a LoRA it then is."""

_OTHER_METHODS = (
    ("DoRA", re.compile(r"\.(dora_scale|lora_magnitude_vector(\..*)?)$")),
    ("LoHa", re.compile(r"\.hada_(w[12]_[ab]|t[12])$")),
    ("LoKr", re.compile(r"\.lokr_(w[12](_[ab])?|t2)$")),
    ("OFT", re.compile(r"\.(oft_(blocks|diag|r)(\..*)?|rescale)$")),
    ("GLoRA", re.compile(r"\.[ab][12]\.weight$")),
    ("LoCon with Tucker decomposition", re.compile(r"\.lora_mid\.weight$")),
    ("LoRA with biases", re.compile(r"\.lora_(B|up)(\.default)?\.bias$")),
    ("full weight difference", re.compile(r"\.(diff|diff_b|w_norm|b_norm|set_weight)$")),
)
_TEXT_ENCODER = ("lora_te", "lora_prior_te", "text_encoder")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a LoRA acts: rows start .. start + size of a layer's output, all of them if size is 0.

    Some architectures keep in one layer what a file has as three, such as q, k and v.
    """

    layer: str
    start: int = 0
    size: int = 0


def split_key(key: str) -> tuple[str, str | None]:
    """("<name>", "down" | "up" | "alpha"), or (key, None) for something else."""
    for suffix, part in PARTS.items():
        if key.endswith(suffix):
            return key.removesuffix(suffix), part
    return key, None


def other_method(keys: Iterable[str]) -> str | None:
    """The method that is no plain LoRA to which one of the tensors belongs."""
    for key in keys:
        for method, pattern in _OTHER_METHODS:
            if pattern.search(key):
                return method
    return None


def is_text_encoder(key: str) -> bool:
    """Whether a tensor is for the text encoder, which is not trained here."""
    return key.startswith(_TEXT_ENCODER)


def known_names(layers: Iterable[str], names: UNetNames | None) -> dict[str, Place]:
    """What a file may call each layer of the model -> the layer."""
    table: dict[str, Place] = {}
    for layer in layers:
        for name in _spellings(layer, names):
            table.setdefault(name, Place(layer))
    return table


def fits(places: Mapping[str, Place], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Place]:
    """Those places that are in a layer of the model."""
    return {
        name: place
        for name, place in places.items()
        if place.layer in shapes and 0 <= place.start <= shapes[place.layer][0] - place.size
    }


def _spellings(layer: str, names: UNetNames | None) -> Iterator[str]:
    flat = layer.replace(".", "_")
    for prefix in ("diffusion_model.", "model.diffusion_model.", "", "base_model.model."):
        yield prefix + layer
    yield f"lora_unet_{flat}"
    yield f"lycoris_{flat}"
    name = names.diffusers(layer) if names is not None else None
    if name is None:
        return
    flat = name.replace(".", "_")
    yield f"lora_unet_{flat}"
    yield f"lycoris_{flat}"
    processor = name.replace(".to_", ".processor.to_").removesuffix(".0")
    for prefix in ("unet.", "", "base_model.model.", "unet.base_model.model."):
        yield prefix + name
        yield prefix + processor
