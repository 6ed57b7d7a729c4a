"""Reading a LoRA file back into a Policy; everything in the file is suspect until checked."""

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

from ..lora import ALL_LAYERS, ATTENTION, MAX_RANK, LoRAConfig, Policy
from .errors import LoRAFileError
from .keys import ALPHA, DOWN, UP, known_names
from .metadata import CONFIG_KEY
from .unet_names import UNetNames

MAX_FILE_BYTES = 8 * 1024**3
FLOATS = (torch.float32, torch.float16, torch.bfloat16)

_TEXT_ENCODER = ("lora_te", "text_encoder")
_PARTS = {**dict.fromkeys(DOWN, "down"), **dict.fromkeys(UP, "up"), ALPHA: "alpha"}


@dataclass(frozen=True)
class LoadedLoRA:
    """A file's LoRA and its metadata (text, not to be trusted)."""

    policy: Policy
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_lora(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    names: UNetNames | None,
    folder: Path | None = None,
) -> LoadedLoRA:
    """Read a LoRA made for a model.

    shapes: weight shape (out, in, ...) of each layer of the model a LoRA may have. names: of its
    UNet, or None. folder: the file must lie in it, after links are followed. Reads kohya,
    diffusion_model.* and diffusers (PEFT) keys. Raises LoRAFileError; files are never changed.
    """
    with _opened(path, folder) as file:
        metadata = _text(file.metadata())
        keys = list(file.keys())
        _check_keys(keys, shapes, names)
        with torch.inference_mode(False):
            # clone: the file may change on the disk later
            tensors = {key: file.get_tensor(key).clone() for key in keys}
    return LoadedLoRA(policy_from_tensors(tensors, shapes, names, metadata), metadata)


def read_metadata(path: Path) -> Mapping[str, str]:
    """The metadata of a safetensors file; reads no tensors. Raises LoRAFileError."""
    with _opened(path, None) as file:
        return _text(file.metadata())


def policy_from_tensors(
    tensors: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, ...]],
    names: UNetNames | None,
    metadata: Mapping[str, str] | None = None,
) -> Policy:
    """The Policy in a state dict of any known key format, e.g. the host's LORA_MODEL.

    Layers of different rank or alpha are brought to one: zero rows are added, and the scale moves
    into "up". Raises LoRAFileError.
    """
    _check_keys(list(tensors), shapes, names)
    layers = _layers(tensors, known_names(shapes, names))
    for layer, parts in layers.items():
        _check_layer(layer, parts, shapes[layer])
    ranks = {layer: parts["down"].shape[0] for layer, parts in layers.items()}
    alphas = {layer: _alpha(layer, parts, ranks[layer]) for layer, parts in layers.items()}
    rank = max(ranks.values())
    uniform = len(set(ranks.values())) == 1 and len(set(alphas.values())) == 1
    alpha = next(iter(alphas.values())) if uniform else float(rank)
    config = _config(rank, alpha, layers, metadata or {})
    result: dict[str, Tensor] = {}
    for layer, parts in layers.items():
        down, up = parts["down"].float().cpu(), parts["up"].float().cpu()
        if not uniform:
            up = up * (alphas[layer] / ranks[layer])
            down, up = _padded(down, 0, rank), _padded(up, 1, rank)
        result[layer + DOWN[0]] = down.contiguous().clone()
        result[layer + UP[0]] = up.contiguous().clone()
    return Policy(config, result)


@contextmanager
def _opened(path: Path, folder: Path | None) -> Iterator[Any]:
    """The safetensors file, once it is known to be a plain file of a sane size in its folder."""
    if "\0" in str(path):
        raise LoRAFileError(f"{str(path)!r:.200} is no file name.")
    real = Path(os.path.realpath(path))
    if folder is not None and not real.is_relative_to(os.path.realpath(folder)):
        raise LoRAFileError(f"{path} leads out of {folder}. Copy the file there instead.")
    try:
        info = os.stat(real)
    except (OSError, ValueError):
        raise LoRAFileError(f"{path} does not exist, or cannot be read.") from None
    if not stat.S_ISREG(info.st_mode) or real.suffix.lower() != ".safetensors":
        raise LoRAFileError(f"{path} is not a .safetensors file.")
    if info.st_size > MAX_FILE_BYTES:
        raise LoRAFileError(f"{path} is too large for a LoRA ({info.st_size / 1e9:.1f} GB).")
    try:
        with safetensors.safe_open(real, framework="pt", device="cpu") as file:
            yield file
    except LoRAFileError:
        raise
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise LoRAFileError(
            f"{path} is not a readable safetensors file: it is damaged or incomplete ({reason})."
        ) from None


def _check_keys(
    keys: list[str], shapes: Mapping[str, tuple[int, ...]], names: UNetNames | None
) -> None:
    """Raise LoRAFileError when a key belongs to no layer of the model; reads no tensors."""
    if not keys:
        raise LoRAFileError("The file holds no LoRA: it has no tensors.")
    known = known_names(shapes, names)
    strange = [key for key in keys if _split(key)[0] not in known or _split(key)[1] is None]
    if not strange:
        return
    if all(key.startswith(_TEXT_ENCODER) for key in strange):
        raise LoRAFileError(
            "This LoRA also changes the text encoder, which PXPO does not train. Apply it with "
            "Load LoRA before PXPO Training Run instead."
        )
    if not any(_split(key)[1] for key in keys):
        raise LoRAFileError(f"The file holds no LoRA: {strange[0]:.80} is not a LoRA tensor.")
    raise LoRAFileError(
        f"This LoRA was made for another architecture or by another method: {len(strange)} of its "
        f"{len(keys)} tensors fit no layer of this model, such as {strange[0]:.80}."
    )


def _layers(
    tensors: Mapping[str, Tensor], known: Mapping[str, str]
) -> dict[str, dict[str, Tensor]]:
    """Layer -> its "down", "up" and "alpha" tensors."""
    layers: dict[str, dict[str, Tensor]] = {}
    for key in sorted(tensors):
        name, part = _split(key)
        assert part is not None  # _check_keys
        parts = layers.setdefault(known[name], {})
        if part in parts:
            raise LoRAFileError(f"The LoRA holds layer {known[name]} twice.")
        parts[part] = tensors[key]
    return layers


def _check_layer(layer: str, parts: Mapping[str, Tensor], shape: tuple[int, ...]) -> None:
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
    out_features, *in_shape = shape
    wanted = (rank, *in_shape), (out_features, rank, *(1 for _ in in_shape[1:]))
    if (tuple(down.shape), tuple(up.shape)) != wanted:
        raise LoRAFileError(
            f"This LoRA was made for another architecture: its layer {layer} is "
            f"{list(up.shape)} x {list(down.shape)}, and this model's is {list(shape)}."
        )


def _alpha(layer: str, parts: Mapping[str, Tensor], rank: int) -> float:
    """A layer without alpha has scale 1."""
    if "alpha" not in parts:
        return float(rank)
    alpha = float(parts["alpha"]) if parts["alpha"].numel() == 1 else math.nan
    if not (math.isfinite(alpha) and alpha > 0.0):
        raise LoRAFileError(f"The LoRA's layer {layer} has an alpha that is no positive number.")
    return alpha


def _config(
    rank: int, alpha: float, layers: Mapping[str, Any], metadata: Mapping[str, str]
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


def _split(key: str) -> tuple[str, str | None]:
    """("<name>", "down" | "up" | "alpha"), or (key, None) for something else."""
    for suffix, part in _PARTS.items():
        if key.endswith(suffix):
            return key.removesuffix(suffix), part
    return key, None


def _text(metadata: Any) -> dict[str, str]:
    return {str(k): str(v) for k, v in (metadata or {}).items()}
