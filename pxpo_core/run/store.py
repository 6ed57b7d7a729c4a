"""Runs on disk: <root>/<run>/manifest.json and round_0001, round_0002, ...

The folders are the truth: the head is the last of the contiguous rounds, so deleting round_0005
goes back to round 4. A round appears by one rename, or not at all. Readers take no lock.
"""

import logging
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ..lora import Policy
from . import files
from .deleting import (
    TRASH_NAME,
    DeletedRun,
    check_wanted,
    delete,
    finish_deleting,
    remove_emptied,
)
from .errors import RunDamagedError, RunError, RunWriteError
from .expectations import check_expected, check_same_run
from .fork import chain_of, copy_run, is_copy, remove_copy
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
from .loading import read_head, read_policy
from .lock import writer_lock
from .names import run_directory
from .overview import write_overview
from .reading import (
    is_temporary,
    read_chain,
    read_info,
    read_manifest,
    read_metrics,
    remove_leftovers,
    round_folder,
    round_folders,
    round_numbers,
)
from .records import RoundRecord, RunHead
from .thinning import thin
from .writing import add_round, check_record, now, start_run

logger = logging.getLogger(__name__)

LOCK_TIMEOUT = 30.0
MAX_THUMBNAIL_BYTES = 1024 * 1024
KEEP_LAST = 20
READ_ATTEMPTS = 5

T = TypeVar("T")


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
            return read_head(name, manifest, folder, rounds)

        return _steady(folder, read)

    def fingerprint(self, name: str) -> str:
        """Changes whenever the run's head does, or anything in its folder is added or removed.

        Cheap: reads no weights. A damaged run has a fingerprint too; reading it says what is wrong.
        """
        folder = run_directory(self.root, name)
        try:
            changed = os.stat(folder).st_mtime_ns
        except FileNotFoundError:
            return f"none{_changed(self.root / TRASH_NAME)}"
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

    def check(self, name: str) -> None:
        """Raise RunNameError or RunDamagedError for what is wrong at a glance.

        Sees what is missing, too short or too long, and reads no weights.
        """
        folder = run_directory(self.root, name)

        def read() -> None:
            manifest = read_manifest(folder)
            if manifest is not None:
                read_chain(folder, manifest)

        _steady(folder, read)

    def history(self, name: str) -> list[dict[str, Any]]:
        """The metrics of every round, oldest first, each with its "round" number."""
        folder = run_directory(self.root, name)

        def read() -> list[dict[str, Any]]:
            manifest = read_manifest(folder)
            chain = [] if manifest is None else read_chain(folder, manifest)
            return [read_metrics(round_folder(folder, info.round), info) for info in chain]

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
            return read_policy(manifest, folder, rounds[round_ - 1])

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
                result.append(read_metrics(path, read_info(path)))
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

    def delete(self, name: str, wanted: str, rounds: int) -> DeletedRun:
        """Move a run's files into <root>/.trash; any file PXPO did not write stays where it is.

        wanted, rounds: the uuid and the number of rounds of the run that a person has confirmed to
        delete; any other is refused. Raises RunError and its kinds; after an error the run is
        whole, or counts as deleted and the next writer finishes.
        """
        folder = run_directory(self.root, name)
        try:
            if not folder.is_dir():
                return DeletedRun(None)
            with writer_lock(folder, self.lock_timeout):
                _settle(folder)
                manifest = read_manifest(folder)
                if manifest is None:
                    remove_emptied(folder)
                    return DeletedRun(None)
                check_wanted(folder, manifest, wanted, rounds)
                deleted = delete(folder, manifest)
                remove_emptied(folder)
                return deleted
        except OSError as error:
            raise RunWriteError(
                f"Deleting run {name} was not finished: {error}. Nothing is lost: what was moved "
                f"is in {self.root / TRASH_NAME}."
            ) from error

    def write_overview(self, name: str, overview: Mapping[str, Any]) -> None:
        """Leave overview.json in an existing run's folder, for those who show it."""
        folder = run_directory(self.root, name)
        if folder.is_dir():
            write_overview(folder, overview)

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
                if not is_copy(target, manifest, chain[-1][1]):
                    temporary = self.root / f".tmp-{uuid.uuid4().hex}"
                    copy_run(chain, manifest, target, temporary, now())
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
        check_record(record)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with writer_lock(folder, self.lock_timeout):
                _settle(folder)
                manifest = read_manifest(folder)
                rounds = read_chain(folder, manifest) if manifest else []
                newest = rounds[-1] if rounds else None
                check_expected(
                    name, manifest, newest, expected_uuid, expected_round, expected_digest
                )
                if manifest is None or newest is None:
                    manifest = start_run(folder, name, manifest, record)
                else:
                    check_same_run(name, manifest, record)
                info = add_round(folder, manifest, newest, record)
                rounds = [*rounds, info]
                thin(folder, rounds, self.keep_last)
        except OSError as error:
            raise RunWriteError(
                f"Round {expected_round + 1} of run {name} could not be written: {error}. The run "
                f"still stands at round {expected_round}."
            ) from error
        return read_head(name, manifest, folder, rounds)


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
    finish_deleting(folder)


def _changed(folder: Path) -> str:
    """When a folder was changed, to be part of a fingerprint; nothing while there is none."""
    try:
        return f" {os.stat(folder).st_mtime_ns}"
    except FileNotFoundError:
        return ""
