"""Copying a run, or a branch of it, to a run of its own under a new name."""

import os
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from . import files
from .errors import RunDamagedError, RunError
from .going_back import branch_folder, branch_rounds, branches
from .manifest import MANIFEST_NAME, ROUND_NAME, Manifest, RoundInfo
from .reading import (
    checked_bytes,
    damaged,
    needed_files,
    read_info,
    read_manifest,
    remove_temporary,
    round_folder,
    round_numbers,
)

Place = tuple[Path, RoundInfo]
"""A round's folder, and what its round.json says."""


def chain_of(folder: Path, manifest: Manifest, round_: int, branch: int | None) -> list[Place]:
    """Rounds 1 .. `round_` as the run had them when that round was made.

    branch: where the last one is, None for the run itself. Earlier ones are found wherever they
    were moved. Raises RunError if there is no such round, RunDamagedError if one is missing.
    """
    where = folder if branch is None else branch_folder(folder, branch)
    last = round_folder(where, round_)
    numbers = round_numbers(folder) if branch is None else branch_rounds(folder, branch)
    if round_ not in numbers:
        place = f"Branch {branch} of run" if branch is not None else "Run"
        raise RunError(f"{place} {folder.name} has no round {round_}.")
    by_id = _all_rounds(folder)
    chain: list[Place] = [(last, read_info(last))]
    while chain[0][1].previous is not None:
        path, info = chain[0]
        before = by_id.get(info.previous or "")
        if before is None or before[1].round != info.round - 1:
            raise damaged(path, "the round before it is missing")
        chain.insert(0, before)
    path, first = chain[0]
    if first.round != 1 or any(info.run != manifest.uuid for _, info in chain):
        raise damaged(path, "it does not belong to the rounds before it")
    return chain


def is_copy(target: Path, source: Manifest, last: RoundInfo) -> bool:
    """Whether `target` already is a copy of the source's rounds up to `last`, trained on or not.

    Raises RunError if it is anything else, such as a copy of a round that was left since.
    """
    made = read_manifest(target)
    parent = {"name": source.name, "uuid": source.uuid, "round": last.round}
    if made is not None and made.parent == parent and last.id in _all_rounds(target):
        return True
    if os.path.lexists(target):
        raise RunError(f"There already is a run named {target.name}. Use another name.")
    return False


def copy_run(
    chain: list[Place], manifest: Manifest, target: Path, temporary: Path, created: str
) -> Manifest:
    """Write the rounds as a new run into `temporary`, and rename it to `target`.

    Both are direct children of the folder of all runs. After an error nothing is left.
    """
    copy = replace(
        manifest,
        uuid=uuid.uuid4().hex,
        name=target.name,
        created=created,
        parent={"name": manifest.name, "uuid": manifest.uuid, "round": chain[-1][1].round},
    )
    total = sum(entry.bytes for _, info in chain for entry in info.files.values())
    files.check_free_space(temporary.parent, total)
    try:
        temporary.mkdir()
        for path, info in chain:
            made = round_folder(temporary, info.round)
            made.mkdir()
            _copy_round(path, info, made, copy.uuid)
        data = files.json_bytes(copy.to_dict(), MANIFEST_NAME)
        files.write_durably(temporary / MANIFEST_NAME, data)
        files.sync_folder(temporary)
        if os.path.lexists(target):
            raise RunError(f"There already is a run named {target.name}. Use another name.")
        os.rename(temporary, target)
    except BaseException:
        remove_copy(temporary)
        raise
    files.sync_folder(target.parent)
    return copy


def remove_copy(temporary: Path) -> None:
    """Remove an unfinished copy: only what a copy is made of."""
    if temporary.is_symlink() or not temporary.is_dir():
        return
    for entry in os.scandir(temporary):
        if entry.name.startswith("round_") and entry.is_dir(follow_symlinks=False):
            remove_temporary(Path(entry.path))
    (temporary / MANIFEST_NAME).unlink(missing_ok=True)
    remove_temporary(temporary)


def _copy_round(path: Path, info: RoundInfo, made: Path, run: str) -> None:
    kept = {}
    for name, entry in info.files.items():
        if name not in needed_files(info) and files.plain_size(path / name) is None:
            continue  # pictures may be deleted to save space
        files.write_durably(made / name, checked_bytes(path / name, info))
        kept[name] = entry
    data = files.json_bytes(replace(info, run=run, files=kept).to_dict(), ROUND_NAME)
    files.write_durably(made / ROUND_NAME, data)
    files.sync_folder(made)


def _all_rounds(folder: Path) -> Mapping[str, Place]:
    """Every readable round of the run and its branches, by id; the run's own win."""
    found: dict[str, Place] = {}
    places = [
        round_folder(branch_folder(folder, branch.number), number)
        for branch in branches(folder)
        for number in branch.rounds
    ]
    for path in [*places, *(round_folder(folder, number) for number in round_numbers(folder))]:
        try:
            info = read_info(path)
        except RunDamagedError:
            continue
        found[info.id] = (path, info)
    return found
