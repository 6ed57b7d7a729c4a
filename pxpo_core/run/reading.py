"""Reading a run's folders: what is there, and whether it is whole."""

import logging
import os
import re
from pathlib import Path
from typing import Any

from . import files
from .errors import RunDamagedError
from .manifest import (
    DELETION_NAME,
    JOURNAL_NAME,
    MANIFEST_NAME,
    ROUND_NAME,
    Deletion,
    Journal,
    Manifest,
    RoundInfo,
)

logger = logging.getLogger(__name__)

MAX_ROUNDS = 9999

LORA_NAME = "lora.safetensors"
OPTIMIZER_NAME = "optimizer.safetensors"
STATE_NAME = "state.json"
METRICS_NAME = "metrics.json"
SETTINGS_NAME = "settings.json"
MEMORY_NAME = "memory.safetensors"
NEEDED = (LORA_NAME, OPTIMIZER_NAME, STATE_NAME, METRICS_NAME, SETTINGS_NAME)
"""Files a round cannot do without; its pictures may be deleted to save space."""
BRANCHES_NAME = "branches"

_ROUND = re.compile(r"round_(\d{4})", re.ASCII)
_TEMPORARY = re.compile(r"\.tmp-[0-9a-f]{32}", re.ASCII)
_OUR_FILE = re.compile(r"(reward_\d{2,6}\.png|thumb_\d{2,6}\.jpg)", re.ASCII)


def read_manifest(folder: Path) -> Manifest | None:
    """What the run is; None when there is none, or only what is left of a deleted one."""
    if read_deletion(folder) is not None:
        return None
    path = folder / MANIFEST_NAME
    if os.path.lexists(path):
        return Manifest.parse(files.read_file(path, files.MAX_JSON_BYTES), path)
    if folder.is_dir() and round_numbers(folder):
        raise RunDamagedError(
            f"{folder} has rounds but no {MANIFEST_NAME}. Put it back, or use a new run name."
        )
    return None


def read_journal(folder: Path) -> Journal | None:
    """The going back that was decided and not finished, if any."""
    path = folder / JOURNAL_NAME
    if not os.path.lexists(path):
        return None
    try:
        return Journal.parse(files.read_file(path, files.MAX_JSON_BYTES), path)
    except RunDamagedError as error:
        raise RunDamagedError(f"{error} Delete it to keep the rounds that are there.") from None


def read_deletion(folder: Path) -> Deletion | None:
    """The deletion of the run that was decided and not finished, if any."""
    path = folder / DELETION_NAME
    if not os.path.lexists(path):
        return None
    try:
        return Deletion.parse(files.read_file(path, files.MAX_JSON_BYTES), path)
    except RunDamagedError as error:
        raise RunDamagedError(f"{error} Delete it to keep what is there.") from None


def round_numbers(folder: Path) -> list[int]:
    """Numbers of the run's round folders, sorted; not those that are on their way to a branch."""
    journal = read_journal(folder)
    top = MAX_ROUNDS if journal is None else journal.to
    return [number for number in round_folders(folder) if number <= top]


def round_folders(folder: Path) -> list[int]:
    """Numbers of all folders named like rounds, sorted."""
    matches = (_ROUND.fullmatch(entry) for entry in os.listdir(folder))
    return sorted(int(match[1]) for match in matches if match)


def round_folder(folder: Path, number: int) -> Path:
    return folder / f"round_{number:04d}"


def needed_files(info: RoundInfo) -> tuple[str, ...]:
    """Files this round cannot do without."""
    needed = tuple(name for name in NEEDED if not (info.thinned and name == OPTIMIZER_NAME))
    return (*needed, MEMORY_NAME) if MEMORY_NAME in info.files else needed


def read_chain(folder: Path, manifest: Manifest, last: int = MAX_ROUNDS) -> list[RoundInfo]:
    """Every round up to `last`, checked: contiguous from 1, linked, of this run, files present."""
    rounds: list[RoundInfo] = []
    for position, number in enumerate(round_numbers(folder), start=1):
        if number > last:
            break
        if number != position:
            missing = round_folder(folder, position).name
            raise RunDamagedError(
                f"{folder}: {missing} is missing, but round_{number:04d} is there. Put {missing} "
                f"back, or move the later rounds away to go on from round {position - 1}."
            )
        path = round_folder(folder, number)
        info = read_info(path)
        previous = rounds[-1].id if rounds else None
        if (info.round, info.run, info.previous) != (number, manifest.uuid, previous):
            raise damaged(path, "it does not belong to the rounds before it")
        if _incomplete(path, info):
            info = read_info(path)  # a writer may have thinned it just now
            file = _incomplete(path, info)
            if file:
                raise damaged(path, f"{file} is missing or has the wrong size")
        rounds.append(info)
    return rounds


def _incomplete(folder: Path, info: RoundInfo) -> str | None:
    """The first needed file that is not as round.json says."""
    place = f"{folder}{os.sep}"  # joining paths would take a third of the time of a long run
    for file in needed_files(info):
        entry = info.files.get(file)
        if entry is None or files.plain_size(place + file) != entry.bytes:
            return file
    return None


def read_info(folder: Path) -> RoundInfo:
    if folder.is_symlink() or not folder.is_dir():
        raise damaged(folder, "it is not a plain folder")
    path = folder / ROUND_NAME
    try:
        return RoundInfo.parse(files.read_file(path, files.MAX_JSON_BYTES), path)
    except RunDamagedError as error:
        raise damaged(folder, str(error).rstrip(".")) from None


def read_metrics(folder: Path, info: RoundInfo) -> dict[str, Any]:
    """The round's metrics, its "round" number and its "id". folder: the round's."""
    path = folder / METRICS_NAME
    metrics = files.parse_json(checked_bytes(path, info), path)
    return {**metrics, "round": info.round, "id": info.id}


def checked_bytes(path: Path, info: RoundInfo) -> bytes:
    """A file of a round, exactly as it was written."""
    entry = info.files[path.name]
    try:
        data = files.read_file(path, entry.bytes)
    except RunDamagedError as error:
        raise damaged(path.parent, str(error).rstrip(".")) from None
    if len(data) != entry.bytes or files.sha256(data) != entry.sha256:
        raise damaged(path.parent, f"{path.name} was changed after it was written")
    return data


def damaged(folder: Path, what: str) -> RunDamagedError:
    number = int(folder.name[-4:])
    back = "start the run again" if number == 1 else f"go back to round {number - 1}"
    return RunDamagedError(
        f"{folder} is damaged: {what}. Restore it, or move it (and any later round) away to {back}."
    )


def is_temporary(name: str) -> bool:
    """Whether a file or folder is one that a writer has not finished."""
    return _TEMPORARY.fullmatch(name) is not None


def remove_leftovers(folder: Path) -> None:
    """Delete what writers that died left behind; the lock is held, so none of it is alive."""
    for entry in os.listdir(folder):
        if is_temporary(entry):
            remove_temporary(folder / entry)


def is_our_file(name: str) -> bool:
    """Whether a file in a round's folder has a name that PXPO gives."""
    return name in (*NEEDED, MEMORY_NAME, ROUND_NAME) or _OUR_FILE.fullmatch(name) is not None


def remove_temporary(path: Path) -> None:
    """Delete a temporary file or folder of ours, and never a file we did not write."""
    try:
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            for entry in os.listdir(path):
                if is_our_file(entry):
                    (path / entry).unlink()
            path.rmdir()
    except OSError as error:
        logger.warning("Could not remove the unfinished %s: %s", path, error)
