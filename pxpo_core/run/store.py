"""Runs on disk: <root>/<run>/manifest.json and round_0001, round_0002, ...

The folders are the truth: the head is the last of the contiguous rounds, so deleting round_0005
goes back to round 4. A round appears by one rename, or not at all. Readers take no lock.
"""

import logging
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

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
from .fork import chain_of, copy_run, remove_copy
from .going_back import (
    Branch,
    GoneBack,
    branch_folder,
    branch_rounds,
    branches,
    check_token,
    finish,
    go_back,
)
from .lock import writer_lock
from .manifest import MANIFEST_NAME, ROUND_NAME, FileEntry, Manifest, RoundInfo
from .names import run_directory
from .reading import (
    LORA_NAME,
    MAX_ROUNDS,
    MEMORY_NAME,
    METRICS_NAME,
    OPTIMIZER_NAME,
    SETTINGS_NAME,
    STATE_NAME,
    checked_bytes,
    damaged,
    is_temporary,
    needed_files,
    read_chain,
    read_info,
    read_manifest,
    remove_leftovers,
    remove_temporary,
    round_folder,
    round_folders,
    round_numbers,
)
from .thinning import thin

logger = logging.getLogger(__name__)

PICTURE_SIZE = 128
LOCK_TIMEOUT = 30.0
MAX_THUMBNAIL_BYTES = 1024 * 1024
KEEP_LAST = 20
READ_ATTEMPTS = 5

T = TypeVar("T")


@dataclass(frozen=True)
class RoundRecord:
    """What one finished round hands to the store.

    base: fingerprint of the model the run trains. reward_maps: [B, H, W] signed.
    thumbnails: [n, h, w, 3] uint8. state, metrics, settings: JSON objects without NaN. memory:
    small tensors that stay when the optimizer's are removed to save space.
    """

    policy: Policy
    optimizer: Mapping[str, Tensor]
    base: str
    reward_maps: Tensor
    thumbnails: Tensor
    state: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class RunHead:
    """A run as it stands. round 0: nothing trained yet, and policy and manifest may be None.

    round_id changes whenever a round is made again, even if its number is the same. thinned: the
    optimizer's state was removed to save space, and training goes on with a fresh one.
    """

    name: str
    uuid: str | None = None
    round: int = 0
    round_id: str | None = None
    policy: Policy | None = None
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    manifest: Manifest | None = None
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    thinned: bool = False


class RunStore:
    """All runs below one folder. Holds no state: every call reads the disk.

    keep_last: how many rounds keep their optimizer state and thumbnails, 0 for all.
    """

    def __init__(
        self,
        root: Path | str,
        lock_timeout: float = LOCK_TIMEOUT,
        keep_last: int = KEEP_LAST,
    ) -> None:
        self.root = Path(root)
        self.lock_timeout = lock_timeout
        self.keep_last = keep_last

    def head(self, name: str) -> RunHead | None:
        """The run's newest round, fully read and checked; None when there is no such run.

        Raises RunNameError or RunDamagedError.
        """
        folder = run_directory(self.root, name)

        def read() -> RunHead | None:
            manifest = read_manifest(folder)
            if manifest is None:
                return None
            rounds = read_chain(folder, manifest)
            if not rounds:
                return RunHead(name, manifest.uuid, manifest=manifest)
            return _read_head(name, manifest, folder, rounds[-1])

        return _steady(folder, read)

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

        def read() -> list[dict[str, Any]]:
            manifest = read_manifest(folder)
            chain = [] if manifest is None else read_chain(folder, manifest)
            return [_metrics(round_folder(folder, info.round), info) for info in chain]

        return _steady(folder, read)

    def uuid(self, name: str) -> str | None:
        """Which run has this name now; None when there is none. Cheap."""
        manifest = read_manifest(run_directory(self.root, name))
        return None if manifest is None else manifest.uuid

    def policy(self, name: str, round_: int) -> Policy:
        """The LoRA as it was after a round, fully checked. Raises RunError."""
        folder = run_directory(self.root, name)

        def read() -> Policy:
            manifest = read_manifest(folder)
            rounds = read_chain(folder, manifest) if manifest else []
            if manifest is None or not 1 <= round_ <= len(rounds):
                raise RunError(f"Run {name} has no round {round_}; it has {len(rounds)} rounds.")
            return _read_policy(manifest, folder, rounds[round_ - 1])

        return _steady(folder, read)

    def thumbnail(self, name: str, round_: int, branch: int | None = None) -> bytes | None:
        """A small JPEG of the round's first picture; None when it was not kept."""
        folder = run_directory(self.root, name)
        where = folder if branch is None else branch_folder(folder, branch)
        try:
            return files.read_file(
                round_folder(where, round_) / "thumb_00.jpg", MAX_THUMBNAIL_BYTES
            )
        except RunDamagedError:
            return None

    def branches(self, name: str) -> list[Branch]:
        """What was left behind by going back, oldest first."""
        return branches(run_directory(self.root, name))

    def branch_history(self, name: str, branch: int) -> list[dict[str, Any]]:
        """The metrics of the rounds in a branch that can be read, oldest first."""
        folder = branch_folder(run_directory(self.root, name), branch)
        result = []
        for number in round_folders(folder) if folder.is_dir() else ():
            try:
                path = round_folder(folder, number)
                result.append(_metrics(path, read_info(path)))
            except RunDamagedError as error:
                logger.warning("%s", error)
        return result

    def go_back(self, name: str, round_: int, token: str) -> GoneBack:
        """Make `round_` the newest; later rounds, damaged ones too, move into a branch.

        token: names this command, which is carried out once. Raises RunError and its kinds; after
        an error the run is as it was, or gone back.
        """
        check_token(token)
        folder = run_directory(self.root, name)
        try:
            if not folder.is_dir():
                raise RunError(f"There is no run named {name}.")
            with writer_lock(folder, self.lock_timeout):
                _settle(folder)
                manifest = read_manifest(folder)
                if manifest is None:
                    raise RunError(f"Run {name} has no rounds yet.")
                return go_back(folder, manifest, round_, token)
        except OSError as error:
            raise RunWriteError(
                f"Going back in run {name} was not finished: {error}. No round is lost."
            ) from error

    def fork(
        self, name: str, new_name: str, round_: int | None = None, branch: int | None = None
    ) -> RunHead:
        """Copy a run up to a round (None: the newest) as a run of its own under a new name.

        branch: take the round from there. Asking for the same copy again returns it as it is now.
        """
        folder, target = run_directory(self.root, name), run_directory(self.root, new_name)
        try:
            if not folder.is_dir():
                raise RunError(f"There is no run named {name}.")
            with writer_lock(self.root, self.lock_timeout), writer_lock(folder, self.lock_timeout):
                _settle(folder)
                for entry in filter(is_temporary, os.listdir(self.root)):
                    remove_copy(self.root / entry)
                manifest = read_manifest(folder)
                numbers = round_numbers(folder) if branch is None else branch_rounds(folder, branch)
                last = max(numbers, default=0) if round_ is None else round_
                if manifest is None or last < 1:
                    raise RunError(f"Run {name} has no round {last} to copy.")
                chain = chain_of(folder, manifest, last, branch)
                if not _is_copy(target, manifest, last):
                    temporary = self.root / f".tmp-{uuid.uuid4().hex}"
                    copy_run(chain, manifest, target, temporary, _now())
        except OSError as error:
            raise RunWriteError(f"Run {name} could not be copied: {error}.") from error
        head = self.head(new_name)
        assert head is not None  # just made
        return head

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
                _settle(folder)
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
                thin(folder, [*rounds, info], self.keep_last)
        except OSError as error:
            raise RunWriteError(
                f"Round {expected_round + 1} of run {name} could not be written: {error}. The run "
                f"still stands at round {expected_round}."
            ) from error
        return _read_head(name, manifest, folder, info)


def _steady(folder: Path, read: Callable[[], T]) -> T:
    """Read without a lock: what looks damaged while a writer moves rounds is read again."""
    for _ in range(READ_ATTEMPTS):
        before = _stamp(folder)
        try:
            return read()
        except RunDamagedError:
            if _stamp(folder) == before:
                raise
    return read()


def _stamp(folder: Path) -> object:
    try:
        return os.stat(folder).st_mtime_ns, sorted(os.listdir(folder))
    except OSError:
        return None


def _settle(folder: Path) -> None:
    """Clear away and finish what writers that died left. The lock is held."""
    remove_leftovers(folder)
    finish(folder)


def _is_copy(target: Path, source: Manifest, round_: int) -> bool:
    """Whether `target` already is this copy; raises RunError if it is anything else."""
    made = read_manifest(target)
    if made is not None and made.parent == {
        "name": source.name, "uuid": source.uuid, "round": round_
    }:  # fmt: skip
        return True
    if os.path.lexists(target):
        raise RunError(f"There already is a run named {target.name}. Use another name.")
    return False


def _metrics(folder: Path, info: RoundInfo) -> dict[str, Any]:
    path = folder / METRICS_NAME
    return {**files.parse_json(checked_bytes(path, info), path), "round": info.round}


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
    if record.memory:
        contents[MEMORY_NAME] = files.tensor_bytes(
            record.memory, "What the run remembers", metadata
        )
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
    policy = _read_policy(manifest, folder, info)
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
    )


def _read_policy(manifest: Manifest, folder: Path, info: RoundInfo) -> Policy:
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
