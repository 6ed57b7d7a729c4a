"""What training needs of one round, read from its folder and verified."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from torch import Tensor

from ..lora import STATE_PREFIX, LoRAConfig, Policy
from . import files
from .errors import RunDamagedError
from .manifest import MANIFEST_NAME, ROUND_NAME, Manifest, RoundInfo
from .reading import (
    LORA_NAME,
    MEMORY_NAME,
    OPTIMIZER_NAME,
    STATE_NAME,
    checked_bytes,
    damaged,
    needed_files,
    read_metrics,
    round_folder,
)
from .records import RunHead

T = TypeVar("T")


def read_head(name: str, manifest: Manifest, folder: Path, rounds: Sequence[RoundInfo]) -> RunHead:
    """Read and verify what training needs of a run's last round; raises RunDamagedError.

    rounds: the whole chain, at least one.
    """
    info = rounds[-1]
    path = round_folder(folder, info.round)
    policy = read_policy(manifest, folder, info)
    state = _checked_part(path, STATE_NAME, info, files.parse_json)
    tensors: dict[str, Mapping[str, Tensor]] = {
        file: _checked_part(path, file, info, files.parse_tensors)
        for file in (OPTIMIZER_NAME, MEMORY_NAME)
        if file in needed_files(info)
    }
    return RunHead(
        name=name,
        uuid=manifest.uuid,
        round=info.round,
        round_id=info.id,
        policy=policy,
        optimizer=tensors.get(OPTIMIZER_NAME, {}),
        state=state,
        manifest=manifest,
        memory=tensors.get(MEMORY_NAME, {}),
        thinned=info.thinned,
        history=tuple(read_metrics(round_folder(folder, i.round), i) for i in rounds),
    )


def read_policy(manifest: Manifest, folder: Path, info: RoundInfo) -> Policy:
    """The LoRA of one round, verified; raises RunDamagedError."""
    path = round_folder(folder, info.round)
    tensors = _checked_part(path, LORA_NAME, info, files.parse_tensors)
    try:
        policy = _policy(manifest, tensors)
    except RunDamagedError as error:
        raise damaged(path, str(error).rstrip(".")) from None
    if policy.digest != info.policy:
        raise damaged(path, f"{LORA_NAME} does not hold the weights {ROUND_NAME} speaks of")
    return policy


def _checked_part(path: Path, file: str, info: RoundInfo, parse: Callable[[bytes, Path], T]) -> T:
    """One file of a round, exactly as it was written, and parsed."""
    data = checked_bytes(path / file, info)
    try:
        return parse(data, path / file)
    except RunDamagedError as error:
        raise damaged(path, str(error).rstrip(".")) from None


def _policy(manifest: Manifest, tensors: dict[str, Tensor]) -> Policy:
    try:
        config = LoRAConfig.from_dict(manifest.lora)
    except (ValueError, TypeError, OverflowError) as error:
        raise RunDamagedError(f"{MANIFEST_NAME}: {error}") from None
    # The file is one that ComfyUI loads; its alphas repeat the manifest.
    weights = {
        name.removeprefix(STATE_PREFIX): tensor
        for name, tensor in tensors.items()
        if not name.endswith(".alpha")
    }
    problem = layers_problem(config, weights)
    if problem:
        raise RunDamagedError(f"{LORA_NAME} {problem}")
    return Policy(config, weights)


def layers_problem(config: LoRAConfig, tensors: Mapping[str, Tensor]) -> str:
    """Why the tensors are not pairs of matching shapes, or an empty string."""
    down, up = ".lora_down.weight", ".lora_up.weight"
    layers = {name.removesuffix(down).removesuffix(up) for name in tensors}
    if not tensors or set(tensors) != {layer + part for layer in layers for part in (down, up)}:
        return f"does not hold {down} and {up} for each layer"
    for layer in sorted(layers):
        a, b = tensors[layer + down], tensors[layer + up]
        if a.ndim < 2 or b.ndim < 2 or a.shape[0] != config.r or b.shape[1] != config.r:
            return f"has layer {layer:.80} with the wrong shape"
    return ""
