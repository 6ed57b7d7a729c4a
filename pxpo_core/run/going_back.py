"""Going back in a run: the later rounds are moved into branches/0001, never deleted.

The decision is one small file, the journal, that appears by one rename. From then on readers see
the run at the round it went back to, and the next writer finishes the moves. A crash leaves the run
as it was or gone back, and every round in exactly one place.
"""

import os
import re
import uuid
from dataclasses import dataclass
from pathlib import Path

from . import files
from .errors import RunDamagedError, RunError, RunNameError
from .manifest import JOURNAL_NAME, SCHEMA, Journal, Manifest, is_token
from .reading import (
    BRANCHES_NAME,
    read_chain,
    read_journal,
    round_folder,
    round_folders,
    round_numbers,
)

COMMANDS_NAME = "commands.json"
COMMANDS_KEPT = 1000

_BRANCH = re.compile(r"\d{4}", re.ASCII)


@dataclass(frozen=True, slots=True)
class GoneBack:
    """What a command to go back did. branch: where the later rounds are, None if none moved.

    done: False when the same command had been carried out before.
    """

    before: int
    now: int
    branch: int | None
    done: bool = True


@dataclass(frozen=True, slots=True)
class Branch:
    """Rounds that a going back moved away, kept in branches/<number>."""

    number: int
    rounds: tuple[int, ...]


def check_token(token: str) -> None:
    """Raise RunError unless the token can name one command."""
    if not is_token(token):
        raise RunError(
            "This command is carried out once, so it needs a token that was never used before: "
            f"8 to 64 letters, digits, - and _, got {token!r:.80}."
        )


def go_back(folder: Path, manifest: Manifest, to: int, token: str) -> GoneBack:
    """Make round `to` the run's newest (0: the run without rounds). The run's lock is held.

    Rounds after `to` may be damaged or missing: they are moved as they are.
    """
    check_token(token)
    top = max(round_numbers(folder), default=0)
    if token in _commands(folder):
        return GoneBack(top, top, None, done=False)
    if len(read_chain(folder, manifest, to)) != to:
        raise RunError(f"Run {folder.name} has no round {to}: its newest is round {top}.")
    if to == top:
        _remember(folder, token)
        return GoneBack(top, top, None)
    number = max((branch.number for branch in branches(folder)), default=0) + 1
    journal = Journal(manifest.uuid, to, number, token)
    data = files.json_bytes(journal.to_dict(), JOURNAL_NAME)
    files.replace_durably(folder / JOURNAL_NAME, _temporary(folder), data)
    finish(folder)
    return GoneBack(top, to, number)


def finish(folder: Path) -> None:
    """Carry out what the journal says, if there is one. The run's lock is held."""
    journal = read_journal(folder)
    if journal is None:
        return
    target = branch_folder(folder, journal.branch)
    target.mkdir(parents=True, exist_ok=True)
    later = [number for number in round_folders(folder) if number > journal.to]
    for number in reversed(later):
        moved = round_folder(target, number)
        if os.path.lexists(moved):  # rename would replace an empty folder
            raise RunDamagedError(f"{moved} is in the way. Move it away and try again.")
        os.rename(round_folder(folder, number), moved)
    for changed in (target, target.parent, folder):
        files.sync_folder(changed)
    _remember(folder, journal.token)
    (folder / JOURNAL_NAME).unlink()
    files.sync_folder(folder)


def branches(folder: Path) -> list[Branch]:
    """The run's branches, oldest first."""
    parent = _branches_folder(folder)
    if not parent.is_dir():
        return []
    numbers = sorted(int(name) for name in os.listdir(parent) if _BRANCH.fullmatch(name))
    return [
        Branch(number, tuple(round_folders(branch_folder(folder, number)))) for number in numbers
    ]


def branch_rounds(folder: Path, number: int) -> tuple[int, ...]:
    """Numbers of the rounds in one branch; none if there is no such branch."""
    return next((branch.rounds for branch in branches(folder) if branch.number == number), ())


def branch_folder(folder: Path, number: int) -> Path:
    """Where a branch's rounds are; raises RunNameError for a link or a file."""
    return _plain_folder(_branches_folder(folder) / f"{number:04d}")


def _branches_folder(folder: Path) -> Path:
    return _plain_folder(folder / BRANCHES_NAME)


def _plain_folder(path: Path) -> Path:
    """The path; raises RunNameError if it is there and is a link or a file."""
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise RunNameError(f"{path} is not a plain folder. Move it away.")
    return path


def _commands(folder: Path) -> list[str]:
    """Tokens of the commands that were carried out, oldest first."""
    path = folder / COMMANDS_NAME
    if not os.path.lexists(path):
        return []
    done = files.parse_json(files.read_file(path, files.MAX_JSON_BYTES), path).get("done")
    if not isinstance(done, list) or not all(is_token(token) for token in done):
        raise RunDamagedError(f"{path}: the field done is not valid. Delete the file to go on.")
    return done


def _remember(folder: Path, token: str) -> None:
    done = _commands(folder)
    if token in done:
        return
    data = files.json_bytes(
        {"schema": SCHEMA, "done": [*done, token][-COMMANDS_KEPT:]}, COMMANDS_NAME
    )
    files.replace_durably(folder / COMMANDS_NAME, _temporary(folder), data)


def _temporary(folder: Path) -> Path:
    return folder / f".tmp-{uuid.uuid4().hex}"
