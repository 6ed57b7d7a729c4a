"""From the tensors of a LoRA file to a Policy; everything in them is suspect until checked."""

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..lora import ALL_LAYERS, ATTENTION, MAX_RANK, LoRAConfig, Policy
from .adapter_metadata import adapter_scales
from .errors import LoRAFileError
from .keys import DOWN, UP
from .metadata import CONFIG_KEY
from .spellings import (
    Place,
    fits,
    is_text_encoder,
    known_names,
    other_method,
    split_key,
)
from .unet_names import UNetNames

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class _LoRA:
    """What acts at one place: scale · up · down. down: [r, in, ...], up: [rows, r, 1, ...]."""

    down: Tensor
    up: Tensor
    scale: float
    alpha: float

    @property
    def rank(self) -> int:
        return self.down.shape[0]


def policy_from_tensors(
    tensors: Mapping[str, Tensor],
    shapes: Shapes,
    names: UNetNames | None,
    metadata: Mapping[str, str] | None = None,
    also: Mapping[str, Place] | None = None,
) -> Policy:
    """The Policy in a state dict of any known key format, e.g. the host's LORA_MODEL.

    also: further names of this architecture's layers. Layers of different rank or alpha are brought
    to one: zero rows are added, and the scale moves into "up". Raises LoRAFileError.
    """
    metadata = metadata or {}
    known = check_keys(list(tensors), shapes, names, also)
    found = _loras(tensors, known, shapes, metadata)
    layers: dict[str, list[tuple[Place, _LoRA]]] = defaultdict(list)
    for place, lora in found.items():
        layers[place.layer].append((place, lora))
    parts = list(found.values())
    simple = all(not place.size for place in found) and all(len(at) == 1 for at in layers.values())
    if simple and len({(lora.rank, lora.alpha) for lora in parts}) == 1:
        config = _config(parts[0].rank, parts[0].alpha, layers, metadata)
        pairs = {layer: (at[0][1].down, at[0][1].up) for layer, at in layers.items()}
    else:
        pairs = {layer: _joined(layer, at, shapes[layer]) for layer, at in layers.items()}
        rank = max(down.shape[0] for down, _ in pairs.values())
        if rank > MAX_RANK:
            raise LoRAFileError(f"The LoRA needs rank {rank} here; 1 to {MAX_RANK} is allowed.")
        config = _config(rank, float(rank), layers, metadata)
        pairs = {
            layer: (_padded(down, 0, rank), _padded(up, 1, rank))
            for layer, (down, up) in pairs.items()
        }
    result: dict[str, Tensor] = {}
    for layer, (down, up) in pairs.items():
        result[layer + DOWN] = down.contiguous().clone()
        result[layer + UP] = up.contiguous().clone()
        if not bool(torch.isfinite(result[layer + UP]).all()):
            raise LoRAFileError(f"The LoRA's layer {layer} is too large for float32.")
    return Policy(config, result)


def check_keys(
    keys: list[str],
    shapes: Shapes,
    names: UNetNames | None,
    also: Mapping[str, Place] | None = None,
) -> dict[str, Place]:
    """Every name a file may use -> its place; reads no tensors.

    Raises LoRAFileError when a key belongs to no layer of the model.
    """
    if not keys:
        raise LoRAFileError("The file holds no LoRA: it has no tensors.")
    known = {**fits(also or {}, shapes), **known_names(shapes, names)}
    strange = [key for key in keys if split_key(key)[1] is None or split_key(key)[0] not in known]
    if not strange:
        return known
    if all(map(is_text_encoder, strange)):
        raise LoRAFileError(
            "This LoRA changes the text encoder, which PXPO does not train. Apply it with Load "
            "LoRA before PXPO Training Run instead."
        )
    method = other_method(strange)
    if method is not None:
        raise LoRAFileError(
            f"This file is no plain LoRA but a {method}, which PXPO cannot train on "
            f"({min(strange):.80}). Apply it with Load LoRA before PXPO Training Run instead."
        )
    if not any(split_key(key)[1] for key in keys):
        raise LoRAFileError(f"The file holds no LoRA: {strange[0]:.80} is not a LoRA tensor.")
    raise LoRAFileError(
        f"This LoRA was made for another architecture or by another method: {len(strange)} of its "
        f"{len(keys)} tensors fit no layer of this model, such as {strange[0]:.80}."
    )


def _loras(
    tensors: Mapping[str, Tensor],
    known: Mapping[str, Place],
    shapes: Shapes,
    metadata: Mapping[str, str],
) -> dict[Place, _LoRA]:
    """What the tensors do at each place, checked."""
    places: dict[Place, dict[str, Tensor]] = defaultdict(dict)
    for key in sorted(tensors):
        name, part = split_key(key)
        assert part is not None  # check_keys
        parts = places[known[name]]
        if part in parts:
            raise LoRAFileError(f"The LoRA holds layer {known[name].layer} twice.")
        parts[part] = tensors[key]
    checked = {
        place: _checked(place, parts, shapes[place.layer]) for place, parts in places.items()
    }
    ranks = {place: down.shape[0] for place, (down, _) in checked.items()}
    scales = adapter_scales(metadata, ranks, known)
    result = {}
    for place, (down, up) in checked.items():
        rank = ranks[place]
        alpha = _alpha(place.layer, places[place], rank * scales.get(place, 1.0))
        result[place] = _LoRA(down, up, alpha / rank, alpha)
    return result


def _checked(
    place: Place, parts: Mapping[str, Tensor], shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """(down, up) in float32, in the shapes the layer asks for."""
    layer = place.layer
    missing = {"down", "up"} - set(parts)
    if missing:
        raise LoRAFileError(f"The LoRA's layer {layer} has no {' or '.join(sorted(missing))} part.")
    for part, tensor in parts.items():
        if tensor.dtype not in FLOATS:
            raise LoRAFileError(f"The LoRA's layer {layer} is {tensor.dtype}, not a float type.")
        if not bool(torch.isfinite(tensor).all()):
            raise LoRAFileError(f"The LoRA's layer {layer} holds NaN or infinity ({part}).")
    down, up = parts["down"], parts["up"]
    rank = down.shape[0] if down.ndim else 0
    if not 1 <= rank <= MAX_RANK:
        raise LoRAFileError(
            f"The LoRA's layer {layer} has rank {rank}; 1 to {MAX_RANK} is allowed."
        )
    rows, in_shape = place.size or shape[0], shape[1:]
    wanted = ((rank, *in_shape), (rows, rank, *(1 for _ in in_shape[1:])))
    if any(map(_differ, (down, up), wanted)):
        raise LoRAFileError(
            f"This LoRA was made for another architecture: its layer {layer} is "
            f"{list(up.shape)} x {list(down.shape)}, and this model's is {list(shape)}."
        )
    down, up = down.float().cpu().reshape(wanted[0]), up.float().cpu().reshape(wanted[1])
    return down, up


def _differ(tensor: Tensor, wanted: tuple[int, ...]) -> bool:
    """Whether a tensor has another shape, other than for ones at its end (a 1x1 convolution)."""
    return _short(tuple(tensor.shape)) != _short(wanted)


def _short(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 2 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _alpha(layer: str, parts: Mapping[str, Tensor], usual: float) -> float:
    if "alpha" not in parts:
        return usual
    alpha = float(parts["alpha"]) if parts["alpha"].numel() == 1 else math.nan
    if not (math.isfinite(alpha) and alpha > 0.0):
        raise LoRAFileError(f"The LoRA's layer {layer} has an alpha that is no positive number.")
    return alpha


def _joined(
    layer: str, at: list[tuple[Place, _LoRA]], shape: tuple[int, ...]
) -> tuple[Tensor, Tensor]:
    """One (down, up) of scale 1 for all that acts on a layer, each part on its own rows."""
    taken: list[range] = []
    ups = []
    for place, lora in at:
        rows = range(place.start, place.start + (place.size or shape[0]))
        if any(rows.start < other.stop and other.start < rows.stop for other in taken):
            raise LoRAFileError(f"The LoRA holds layer {layer} twice.")
        taken.append(rows)
        up = lora.up.new_zeros((shape[0], *lora.up.shape[1:]))
        up[rows.start : rows.stop] = lora.up * lora.scale
        ups.append(up)
    return torch.cat([lora.down for _, lora in at]), torch.cat(ups, dim=1)


def _config(
    rank: int, alpha: float, layers: Iterable[str], metadata: Mapping[str, str]
) -> LoRAConfig:
    """The settings the file's run had, when they agree with its tensors; else what these show."""
    try:
        config = LoRAConfig.from_dict(json.loads(metadata[CONFIG_KEY]))
        if (config.r, config.lora_alpha) == (rank, alpha):
            return config
    except (KeyError, ValueError, TypeError, OverflowError, RecursionError):
        pass  # not our file, or edited: the tensors decide
    only_attention = all("attn" in layer for layer in layers)
    return LoRAConfig(rank, alpha, ATTENTION if only_attention else ALL_LAYERS)


def _padded(tensor: Tensor, dim: int, size: int) -> Tensor:
    missing = list(tensor.shape)
    missing[dim] = size - missing[dim]
    return torch.cat([tensor, tensor.new_zeros(missing)], dim)
