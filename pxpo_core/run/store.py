"""Runs on disk: <root>/<run>/manifest.json and round_0001, round_0002, ...

The folders are the truth: the head is the last of the contiguous rounds, so deleting round_0005
goes back to round 4. A round appears by one rename, or not at all.
"""

import logging
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..lora import STATE_PREFIX, LoRAConfig, Policy
from ..reward import check_finite, resize_mask, shrunk_size
from . import files
from .errors import (
    RunDamagedError,
    RunError,
    RunMismatchError,
    RunWriteError,
    StaleRolloutError,
)
from .lock import writer_lock
from .manifest import MANIFEST_NAME, ROUND_NAME, FileEntry, Manifest, RoundInfo
from .names import run_directory
from .reading import (
    LORA_NAME,
    MAX_ROUNDS,
    METRICS_NAME,
    NEEDED,
    OPTIMIZER_NAME,
    SETTINGS_NAME,
    STATE_NAME,
    checked_bytes,
    damaged,
    read_chain,
    read_info,
    read_manifest,
    remove_leftovers,
    remove_temporary,
    round_folder,
    round_numbers,
)

logger = logging.getLogger(__name__)

PICTURE_SIZE = 128
LOCK_TIMEOUT = 30.0
MAX_THUMBNAIL_BYTES = 1024 * 1024


@dataclass(frozen=True)
class RoundRecord:
    """What one finished round hands to the store.

    base: fingerprint of the model the run trains. reward_maps: [B, H, W] signed.
    thumbnails: [n, h, w, 3] uint8. state, metrics, settings: JSON objects without NaN.
    """

    policy: Policy
    optimizer: Mapping[str, Tensor]
    base: str
    reward_maps: Tensor
    thumbnails: Tensor
    state: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RunHead:
    """A run as it stands. round 0: nothing trained yet, and policy and manifest may be None.

    round_id changes whenever a round is made again, even if its number is the same.
    """

    name: str
    uuid: str | None = None
    round: int = 0
    round_id: str | None = None
    policy: Policy | None = None
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    manifest: Manifest | None = None


class RunStore:
    """All runs below one folder. Holds no state: every call reads the disk."""

    def __init__(self, root: Path | str, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self.root = Path(root)
        self.lock_timeout = lock_timeout

    def head(self, name: str) -> RunHead | None:
        """The run's newest round, fully read and checked; None when there is no such run.

        Raises RunNameError or RunDamagedError.
        """
        folder = run_directory(self.root, name)
        manifest = read_manifest(folder)
        if manifest is None:
            return None
        rounds = read_chain(folder, manifest)
        if not rounds:
            return RunHead(name, manifest.uuid, manifest=manifest)
        return _read_head(name, manifest, folder, rounds[-1])

    def fingerprint(self, name: str) -> str:
        """Changes whenever the run's head does, or anything in its folder is added or removed.

        Cheap: reads no weights. A damaged run has a fingerprint too; reading it says what is wrong.
        """
        folder = run_directory(self.root, name)
        try:
            changed = os.stat(folder).st_mtime_ns
        except FileNotFoundError:
            return "none"
        try:
            manifest = read_manifest(folder)
            if manifest is None:
                return f"none {changed}"
            numbers = round_numbers(folder)
            top = max(numbers, default=0)
            newest = read_info(round_folder(folder, top)).id if top else "none"
        except RunDamagedError:
            return f"damaged {changed}"
        return f"{manifest.uuid} {len(numbers)} {newest} {changed}"

    def lora_settings(self, name: str) -> Mapping[str, Any] | None:
        """LoRAConfig fields a run was started with; None while it has no rounds. Cheap."""
        folder = run_directory(self.root, name)
        manifest = read_manifest(folder)
        return manifest.lora if manifest is not None and round_numbers(folder) else None

    def history(self, name: str) -> list[dict[str, Any]]:
        """The metrics of every round, oldest first, each with its "round" number."""
        folder = run_directory(self.root, name)
        manifest = read_manifest(folder)
        if manifest is None:
            return []
        result = []
        for info in read_chain(folder, manifest):
            path = round_folder(folder, info.round) / METRICS_NAME
            metrics = files.parse_json(checked_bytes(path, info), path)
            result.append({**metrics, "round": info.round})
        return result

    def uuid(self, name: str) -> str | None:
        """Which run has this name now; None when there is none. Cheap."""
        manifest = read_manifest(run_directory(self.root, name))
        return None if manifest is None else manifest.uuid

    def policy(self, name: str, round_: int) -> Policy:
        """The LoRA as it was after a round, fully checked. Raises RunError."""
        folder = run_directory(self.root, name)
        manifest = read_manifest(folder)
        rounds = read_chain(folder, manifest) if manifest else []
        if manifest is None or not 1 <= round_ <= len(rounds):
            raise RunError(f"Run {name} has no round {round_}; it has {len(rounds)} rounds.")
        policy = _read_head(name, manifest, folder, rounds[round_ - 1]).policy
        assert policy is not None  # a round that was read has one
        return policy

    def thumbnail(self, name: str, round_: int) -> bytes | None:
        """A small JPEG of the round's first picture; None when it was not kept."""
        path = round_folder(run_directory(self.root, name), round_) / "thumb_00.jpg"
        try:
            return files.read_file(path, MAX_THUMBNAIL_BYTES)
        except RunDamagedError:
            return None

    def write_round(
        self,
        name: str,
        expected_uuid: str | None,
        expected_round: int,
        record: RoundRecord,
        expected_digest: str | None = None,
    ) -> RunHead:
        """Add the round after `expected_round`, creating the run if there is none.

        The expectations are what the rollout was sampled by: the run's uuid (None = it was not on
        disk), its round, and that round's policy digest (not compared at round 0, or when None).
        Raises StaleRolloutError if the run is elsewhere by now, RunMismatchError if it belongs to
        another model or LoRA, RunBusyError, RunDamagedError or RunWriteError. After an error the
        run is as it was.
        """
        folder = run_directory(self.root, name)
        _check_record(record)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with writer_lock(folder, self.lock_timeout):
                remove_leftovers(folder)
                manifest = read_manifest(folder)
                rounds = read_chain(folder, manifest) if manifest else []
                newest = rounds[-1] if rounds else None
                _check_expected(
                    name, manifest, newest, expected_uuid, expected_round, expected_digest
                )
                if manifest is None or newest is None:
                    manifest = _start(folder, name, manifest, record)
                else:
                    _check_same_run(name, manifest, record)
                info = _write(folder, manifest, newest, record)
        except OSError as error:
            raise RunWriteError(
                f"Round {expected_round + 1} of run {name} could not be written: {error}. The run "
                f"still stands at round {expected_round}."
            ) from error
        return _read_head(name, manifest, folder, info)


def _start(folder: Path, name: str, old: Manifest | None, record: RoundRecord) -> Manifest:
    """Write the manifest of a run without rounds; one that lost them all keeps its uuid."""
    manifest = Manifest(
        uuid=uuid.uuid4().hex if old is None else old.uuid,
        name=name,
        base=record.base,
        lora=record.policy.config.to_dict(),
        created=_now(),
    )
    temporary = folder / f".tmp-{uuid.uuid4().hex}"
    data = files.json_bytes(manifest.to_dict(), MANIFEST_NAME)
    files.replace_durably(folder / MANIFEST_NAME, temporary, data)
    return manifest


def _write(
    folder: Path, manifest: Manifest, newest: RoundInfo | None, record: RoundRecord
) -> RoundInfo:
    """Write the next round into a temporary folder and rename it into place."""
    number = 1 if newest is None else newest.round + 1
    if number > MAX_ROUNDS:
        raise RunWriteError(f"A run holds at most {MAX_ROUNDS} rounds. Start a new run name.")
    scale = float(record.reward_maps.abs().max())
    contents = _contents(record, manifest, number, scale)
    files.check_free_space(folder, sum(len(data) for data in contents.values()))
    info = RoundInfo(
        id=uuid.uuid4().hex,
        run=manifest.uuid,
        round=number,
        previous=None if newest is None else newest.id,
        policy=record.policy.digest,
        created=_now(),
        reward_scale=scale,
        files={file: FileEntry(len(data), files.sha256(data)) for file, data in contents.items()},
    )
    target = round_folder(folder, number)
    temporary = folder / f".tmp-{uuid.uuid4().hex}"
    try:
        temporary.mkdir()
        for file, data in contents.items():
            files.write_durably(temporary / file, data)
        # Last: a folder without it is not a round.
        description = files.json_bytes(info.to_dict(), ROUND_NAME)
        files.write_durably(temporary / ROUND_NAME, description)
        files.sync_folder(temporary)
        if os.path.lexists(target):  # rename would replace an empty folder
            raise RunDamagedError(f"{target} is in the way. Move it away and press Run again.")
        os.rename(temporary, target)
    except BaseException:
        remove_temporary(temporary)
        raise
    try:
        files.sync_folder(folder)
    except OSError as error:  # the round is there; only its safety from a power cut is not known
        logger.warning("Round %d of run %s may be lost in a power cut: %s", number, folder, error)
    return info


def _contents(
    record: RoundRecord, manifest: Manifest, number: int, scale: float
) -> dict[str, bytes]:
    """File name -> bytes for everything in a round but round.json."""
    metadata = {"format": "pt", "pxpo_run": manifest.uuid, "pxpo_round": str(number)}
    contents = {
        LORA_NAME: files.tensor_bytes(record.policy.state_dict(), "The LoRA", metadata),
        OPTIMIZER_NAME: files.tensor_bytes(record.optimizer, "The optimizer", metadata),
        STATE_NAME: files.json_bytes(dict(record.state), "state"),
        METRICS_NAME: files.json_bytes(dict(record.metrics), "metrics"),
        SETTINGS_NAME: files.json_bytes(dict(record.settings), "settings"),
    }
    _, height, width = record.reward_maps.shape
    size = shrunk_size(height, width, PICTURE_SIZE)
    for i, reward_map in enumerate(resize_mask(record.reward_maps.float().cpu(), size)):
        contents[f"reward_{i:02d}.png"] = files.reward_png(reward_map, scale)
    for i, picture in enumerate(record.thumbnails):
        contents[f"thumb_{i:02d}.jpg"] = files.thumbnail_jpeg(picture)
    return contents


def _check_record(record: RoundRecord) -> None:
    """Everything that can be refused before a lock is taken."""
    maps, pictures = record.reward_maps, record.thumbnails
    if maps.ndim != 3 or maps.numel() == 0:
        raise RunWriteError(f"Reward maps must be [images, height, width]: {list(maps.shape)}.")
    check_finite(maps, "reward map")
    if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != torch.uint8:
        raise RunWriteError(
            f"Thumbnails must be uint8 [images, height, width, 3]: {list(pictures.shape)}."
        )
    problem = _layers_problem(record.policy.config, record.policy.tensors)
    if problem:
        raise RunWriteError(f"The LoRA {problem}; nothing was written.")


def _check_expected(
    name: str,
    manifest: Manifest | None,
    newest: RoundInfo | None,
    expected_uuid: str | None,
    expected_round: int,
    expected_digest: str | None,
) -> None:
    """Raise StaleRolloutError unless the run still is what the pictures were made by."""
    actual = 0 if newest is None else newest.round
    advice = "Make new pictures with the run as it is now. Your marks are kept."
    if actual != expected_round:
        raise StaleRolloutError(
            f"Run {name} is at round {actual}, but these pictures were made by round "
            f"{expected_round}. {advice}"
        )
    # Between the manifest and round 1, or with every round deleted, a run is as good as new.
    fresh = newest is None and expected_uuid is None
    if not fresh and expected_uuid != (manifest.uuid if manifest else None):
        raise StaleRolloutError(
            f"Run {name} is not the run that made these pictures: it was deleted or replaced "
            f"since. {advice}"
        )
    if newest is not None and expected_digest not in (None, newest.policy):
        raise StaleRolloutError(
            f"Round {actual} of run {name} was made again since these pictures were made. {advice}"
        )


def _check_same_run(name: str, manifest: Manifest, record: RoundRecord) -> None:
    if manifest.base != record.base:
        raise RunMismatchError(
            f"Run {name} was started with another model. Connect that model, or use a new run name."
        )
    config = record.policy.config.to_dict()
    if dict(manifest.lora) != config:
        raise RunMismatchError(
            f"Run {name} was started with the LoRA settings {_listed(manifest.lora)}, not "
            f"{_listed(config)}. Set them back, or use a new run name."
        )


def _read_head(name: str, manifest: Manifest, folder: Path, info: RoundInfo) -> RunHead:
    """Read and verify what training needs of one round."""
    path = round_folder(folder, info.round)
    data = {file: checked_bytes(path / file, info) for file in NEEDED}
    try:
        policy = _policy(manifest, files.parse_tensors(data[LORA_NAME], path / LORA_NAME))
        optimizer = files.parse_tensors(data[OPTIMIZER_NAME], path / OPTIMIZER_NAME)
        state = files.parse_json(data[STATE_NAME], path / STATE_NAME)
    except RunDamagedError as error:
        raise damaged(path, str(error).rstrip(".")) from None
    if policy.digest != info.policy:
        raise damaged(path, f"{LORA_NAME} does not hold the weights {ROUND_NAME} speaks of")
    return RunHead(
        name=name,
        uuid=manifest.uuid,
        round=info.round,
        round_id=info.id,
        policy=policy,
        optimizer=optimizer,
        state=state,
        manifest=manifest,
    )


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
    problem = _layers_problem(config, weights)
    if problem:
        raise RunDamagedError(f"{LORA_NAME} {problem}")
    return Policy(config, weights)


def _layers_problem(config: LoRAConfig, tensors: Mapping[str, Tensor]) -> str:
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


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(values.items()))


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
