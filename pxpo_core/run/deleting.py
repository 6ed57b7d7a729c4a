"""Deleting a run: the files PXPO wrote move to <root>/.trash/<run>-<id>; any other file stays.

The decision is one small file, the deletion, that appears by one rename. From then on readers see
no run, and the next writer finishes the moves. A crash leaves the run whole or deleted, and every
file in exactly one place. A folder moved back out of the trash is the run again.
"""

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from . import files
from .errors import RunDamagedError, RunError, RunNameError
from .going_back import COMMANDS_NAME
from .lock import LOCK_NAME
from .manifest import DELETION_NAME, MANIFEST_NAME, ROUND_NAME, Deletion, Manifest
from .overview import OVERVIEW_NAME
from .reading import (
    BRANCHES_NAME,
    is_our_file,
    read_deletion,
    read_info,
    remove_leftovers,
    round_folder,
    round_folders,
)

TRASH_NAME = ".trash"


@dataclass(frozen=True, slots=True)
class DeletedRun:
    """What a deletion did.

    trash: where the run is now, None when there was no such run. stayed: what PXPO had not written
    and left in the run's folder, relative to it.
    """

    trash: Path | None
    rounds: int = 0
    stayed: tuple[str, ...] = ()


def check_wanted(folder: Path, manifest: Manifest, wanted: str, rounds: int) -> None:
    """Raise RunError unless this is the run that a person has confirmed to delete."""
    if manifest.uuid != wanted:
        raise RunError(
            f"Run {folder.name} is not the run this command was made for: that one was deleted or "
            "replaced since. Nothing was deleted."
        )
    there = len(round_folders(folder))
    if there != rounds:
        raise RunError(
            f"Run {folder.name} has {there} rounds by now, not {rounds}. Nothing was deleted: look "
            "at it again first."
        )


def delete(folder: Path, manifest: Manifest) -> DeletedRun:
    """Move the run's files into the trash. The run's lock is held, and nothing is unfinished."""
    rounds = len(round_folders(folder))
    trash = trash_folder(folder.parent)
    trash.mkdir(exist_ok=True)
    deletion = Deletion(manifest.uuid, f"{folder.name}-{uuid.uuid4().hex}")
    data = files.json_bytes(deletion.to_dict(), DELETION_NAME)
    files.replace_durably(folder / DELETION_NAME, folder / f".tmp-{uuid.uuid4().hex}", data)
    finish_deleting(folder)
    return DeletedRun(trash / deletion.trash, rounds, tuple(_left(folder)))


def finish_deleting(folder: Path) -> None:
    """Carry out the deletion that was decided, if there is one. The run's lock is held."""
    deletion = read_deletion(folder)
    if deletion is None:
        return
    target = trash_folder(folder.parent) / deletion.trash
    for source in (folder, *_branch_folders(folder)):
        for number in round_folders(source):
            path = round_folder(source, number)
            _move_round(path, target / path.relative_to(folder))
    # Last: what tells a folder to be a run.
    _move_files(folder, target, (COMMANDS_NAME, OVERVIEW_NAME, MANIFEST_NAME))
    for emptied in (*_branch_folders(folder), folder / BRANCHES_NAME):
        _remove_empty(emptied)
    for changed in (target, target.parent):
        files.sync_folder(changed)
    (folder / DELETION_NAME).unlink()
    files.sync_folder(folder)


def remove_emptied(folder: Path) -> None:
    """Remove the folder of a deleted run when nothing is left in it. Its lock is held."""
    if os.name == "nt" or os.listdir(folder) != [LOCK_NAME]:
        return  # Windows keeps a file that is open, and an empty folder does no harm
    with suppress(OSError):
        (folder / LOCK_NAME).unlink()
        folder.rmdir()


def trash_folder(root: Path) -> Path:
    """Where deleted runs go; raises RunNameError for a link or a file."""
    path = root / TRASH_NAME
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise RunNameError(f"{path} is not a plain folder. Move it away.")
    return path


def _branch_folders(folder: Path) -> list[Path]:
    """The plain folders below branches; links are not followed."""
    parent = folder / BRANCHES_NAME
    if parent.is_symlink() or not parent.is_dir():
        return []
    return sorted(parent / e.name for e in os.scandir(parent) if e.is_dir(follow_symlinks=False))


def _move_round(source: Path, target: Path) -> None:
    if source.is_symlink() or not source.is_dir():
        return
    remove_leftovers(source)
    try:
        listed = set(read_info(source).files)
    except RunDamagedError:  # also when an earlier attempt was interrupted after round.json
        listed = set()
    ours = [name for name in sorted(os.listdir(source)) if name in listed or is_our_file(name)]
    # round.json last: it lists the others
    _move_files(source, target, sorted(ours, key=lambda name: (name == ROUND_NAME, name)))
    _remove_empty(source)


def _move_files(source: Path, target: Path, names: tuple[str, ...] | list[str]) -> None:
    """Move the plain files among `names`; one that is there already is never replaced."""
    for name in names:
        if files.plain_size(source / name) is None:
            continue
        if os.path.lexists(target / name):
            raise RunDamagedError(f"{target / name} is in the way. Move it away and try again.")
        target.mkdir(parents=True, exist_ok=True)
        os.rename(source / name, target / name)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):
        folder.rmdir()


def _left(folder: Path) -> Iterator[str]:
    """Everything still in a deleted run's folder, but its lock."""
    for parent, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(parent, name))]
        empty = [] if folders or names or parent == str(folder) else [""]
        for name in sorted([*names, *links, *empty]):
            place = Path(parent, name).relative_to(folder).as_posix()
            if place != LOCK_NAME:
                yield place
