"""The paint widget's value: a small JSON object that names files by their content.

    {"version": 1, "node": <32 hex>, "marks": [{"thumb": <32 hex> or null, "map": <32 hex> or null,
     "width": px, "height": px, "reviewed": true}, ...]}

It arrives from workflows and API calls, so nothing in it is trusted: file names are 32 hex digits
and never paths.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

VERSION = 1
MOST_MARKS = 4096
LARGEST_SIDE = 16384

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_REMEDY = "Press Clear in the paint node, or add the node again."


class MarksInvalid(ValueError):
    """The widget's value is not what the widget writes."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Feedback on one picture. thumb: the picture it belongs to (None: by position, from the API).

    map: None when the picture was looked at and nothing was painted.
    """

    thumb: str | None
    map: str | None
    width: int
    height: int
    reviewed: bool


@dataclass(frozen=True, slots=True)
class Marks:
    """node: whose pictures these are; None when there is no widget (API)."""

    node: str | None = None
    marks: tuple[Mark, ...] = ()


def read_marks(value: object) -> Marks:
    """Check a widget value. None, "" and {} mean nothing was painted."""
    if value is None or value == "" or value == {}:
        return Marks()
    if not isinstance(value, Mapping):
        raise MarksInvalid(_message(f"it is {type(value).__name__}, not an object"))
    if value.get("version") != VERSION:
        raise MarksInvalid(
            _message(f"its version is {value.get('version')!r:.40}, this PXPO reads {VERSION}")
        )
    entries = value.get("marks", [])
    if not isinstance(entries, list) or len(entries) > MOST_MARKS:
        raise MarksInvalid(_message(f"marks must be a list of at most {MOST_MARKS}"))
    node = _id(value.get("node"), "node")
    return Marks(node, tuple(_mark(entry, i) for i, entry in enumerate(entries, start=1)))


def _mark(entry: Any, number: int) -> Mark:
    where = f"mark {number}"
    if not isinstance(entry, Mapping):
        raise MarksInvalid(_message(f"{where} is not an object"))
    reviewed = entry.get("reviewed", True)
    if not isinstance(reviewed, bool):
        raise MarksInvalid(_message(f"{where}: reviewed must be true or false"))
    sides = []
    for name in ("width", "height"):
        side = entry.get(name)
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= LARGEST_SIDE:
            raise MarksInvalid(
                _message(f"{where}: {name} must be 1 to {LARGEST_SIDE}, got {side!r:.40}")
            )
        sides.append(side)
    return Mark(
        _id(entry.get("thumb"), f"{where}: thumb"),
        _id(entry.get("map"), f"{where}: map"),
        sides[0],
        sides[1],
        reviewed,
    )


def _id(value: object, where: str) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or _ID.fullmatch(value) is None:
        raise MarksInvalid(_message(f"{where} must be 32 hex digits, got {value!r:.60}"))
    return value


def _message(what: str) -> str:
    return f"The painted marks cannot be read: {what}. {_REMEDY}"
