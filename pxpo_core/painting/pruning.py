"""Keeping the paint folder from growing for ever, without ever losing a person's marks.

Every stroke leaves a map file, so most maps are steps on the way to another. A map file written by
the widget says whose it is: the node, and the picture (its thumb). Removed are

- maps that a later map of the same node and picture replaced, when nobody used them for KEPT_DAYS;
- pictures of nodes that showed nothing for PICTURES_KEPT_DAYS: a run makes them again.

The last map of every picture stays for good, and so does what a node's newest marks name: a copied
node names files of the one it was copied from. So do thumbs, which tie marks to pictures, and map
files that say nothing: a person put those there.
"""

import contextlib
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

from .batch import PaintFolder
from .marks import read_marks

KEPT_DAYS = 30.0
PICTURES_KEPT_DAYS = 90.0
_DAY = 24 * 3600.0
_NAME = re.compile(r"[0-9a-f]{32}\.png", re.ASCII)
_NODE = re.compile(r"[0-9a-f]{32}", re.ASCII)
_OWNER = re.compile(rb"pxpo\0([0-9a-f]{32}) ([0-9a-f]{32})")
_HEAD = 33  # signature and header of a PNG file; the owner is the next chunk
_MOST_TEXT = 80


def prune(folder: PaintFolder, now: float | None = None) -> int:
    """Remove what is old and replaced; returns how many files. Files that resist stay."""
    now = time.time() if now is None else now
    return _prune_maps(folder, now - KEPT_DAYS * _DAY) + _prune_pictures(
        folder, now - PICTURES_KEPT_DAYS * _DAY
    )


def _prune_maps(folder: PaintFolder, oldest: float) -> int:
    groups: dict[bytes, list[tuple[float, Path]]] = {}
    for path in _files(folder.root / "maps", _NAME):
        try:
            owner = _owner(path)
            if owner is not None:
                groups.setdefault(owner, []).append((path.stat().st_mtime, path))
        except OSError:
            continue
    named = _named(folder)
    return sum(
        _remove(path)
        for maps in groups.values()
        for used, path in sorted(maps)[:-1]
        if used < oldest and path.stem not in named
    )


def _named(folder: PaintFolder) -> set[str]:
    """Maps that the newest marks of some node name."""
    found: set[str] = set()
    for node in _files(folder.root, _NODE):
        with contextlib.suppress(ValueError):  # anybody may upload some, or put a link there
            marks = read_marks(folder.newest_marks(node.name)).marks
            found.update(mark.map for mark in marks if mark.map is not None)
    return found


def _prune_pictures(folder: PaintFolder, oldest: float) -> int:
    removed = 0
    for path in _files(folder.root, _NODE):
        try:
            if (path / "batch.json").stat().st_mtime < oldest:
                removed += folder.forget_node(path.name)
        except (OSError, ValueError):
            continue
    return removed


def _files(folder: Path, name: re.Pattern[str]) -> Iterator[Path]:
    """Entries of that name; links are not ours."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    yield from (e for e in entries if name.fullmatch(e.name) and not e.is_symlink())


def _owner(path: Path) -> bytes | None:
    """Node and picture of a map that the widget wrote: the first chunk after the header."""
    with path.open("rb") as file:
        head = file.read(_HEAD + 8 + _MOST_TEXT)
    if len(head) < _HEAD + 8 or head[_HEAD + 4 : _HEAD + 8] != b"tEXt":
        return None
    (length,) = struct.unpack(">I", head[_HEAD : _HEAD + 4])
    found = _OWNER.fullmatch(head[_HEAD + 8 : _HEAD + 8 + length])
    return found.group(0) if found else None


def _remove(path: Path) -> int:
    try:
        path.unlink()
    except OSError:
        return 0
    return 1
