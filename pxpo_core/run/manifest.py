"""The small JSON documents of a run: manifest.json, round.json, and the journals of its changes."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .errors import RunDamagedError
from .files import is_number, parse_json

SCHEMA = 1
MANIFEST_NAME = "manifest.json"
ROUND_NAME = "round.json"
JOURNAL_NAME = ".going-back.json"
DELETION_NAME = ".deleting.json"

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FILE = re.compile(r"[a-z]+(_\d{2,6})?\.(safetensors|json|png|jpg)", re.ASCII)
_TRASH = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,63}-[0-9a-f]{32}", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{8,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What stays the same over a run.

    base: fingerprint of the model. lora: LoRAConfig fields. parent: name, uuid and round of the run
    this one is a copy of, or None.
    """

    uuid: str
    name: str
    base: str
    lora: Mapping[str, Any]
    created: str
    schema: int = SCHEMA
    parent: Mapping[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> "Manifest":
        """Raises RunDamagedError naming the file and the field."""
        return cls(**_checked(data, path, _MANIFEST_FIELDS, {"parent": _is_parent}))


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and sha256 of one file of a round."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RoundInfo:
    """What round.json says: who this round is, what it follows, and what belongs to it.

    thinned: its optimizer state was removed to save space.
    """

    id: str
    run: str
    round: int
    previous: str | None
    policy: str
    created: str
    reward_scale: float
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    schema: int = SCHEMA
    thinned: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> "RoundInfo":
        """Raises RunDamagedError naming the file and the field."""
        values = _checked(data, path, _ROUND_FIELDS, {"thinned": lambda v: isinstance(v, bool)})
        files = {}
        for name, entry in values["files"].items():
            good = (
                _FILE.fullmatch(name) is not None
                and isinstance(entry, dict)
                and set(entry) == {"bytes", "sha256"}
                and _is_count(entry["bytes"])
                and _matches(_DIGEST, entry["sha256"])
            )
            if not good:
                raise RunDamagedError(f"{path}: the entry for {name!r:.80} is not valid.")
            files[name] = FileEntry(entry["bytes"], entry["sha256"])
        return cls(**{**values, "files": files})


@dataclass(frozen=True, slots=True)
class Journal:
    """A going back that was decided: the rounds after `to` belong into the branch."""

    run: str
    to: int
    branch: int
    token: str
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> "Journal":
        """Raises RunDamagedError naming the file and the field."""
        return cls(**_checked(data, path, _JOURNAL_FIELDS, {}))


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion that was decided: the run's files belong into this folder of the trash."""

    run: str
    trash: str
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> "Deletion":
        """Raises RunDamagedError naming the file and the field."""
        return cls(**_checked(data, path, _DELETION_FIELDS, {}))


def is_token(value: object) -> bool:
    """Whether a value can name a command that is carried out once."""
    return _matches(_TOKEN, value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 1000


_MANIFEST_FIELDS = {
    "schema": _is_count,
    "uuid": lambda v: _matches(_ID, v),
    "name": _is_text,
    "base": _is_text,
    "lora": lambda v: isinstance(v, dict),
    "created": _is_text,
}
_ROUND_FIELDS = {
    "schema": _is_count,
    "id": lambda v: _matches(_ID, v),
    "run": lambda v: _matches(_ID, v),
    "round": _is_count,
    "previous": lambda v: v is None or _matches(_ID, v),
    "policy": lambda v: _matches(_DIGEST, v),
    "created": _is_text,
    "reward_scale": lambda v: is_number(v) and v >= 0,
    "files": lambda v: isinstance(v, dict),
}


_JOURNAL_FIELDS = {
    "schema": _is_count,
    "run": lambda v: _matches(_ID, v),
    "to": _is_count,
    "branch": lambda v: _is_count(v) and 1 <= v <= 9999,
    "token": is_token,
}
_DELETION_FIELDS = {
    "schema": _is_count,
    "run": lambda v: _matches(_ID, v),
    "trash": lambda v: _matches(_TRASH, v),
}


def _is_parent(value: object) -> bool:
    return value is None or (
        isinstance(value, dict)
        and set(value) == {"name", "uuid", "round"}
        and _is_text(value["name"])
        and _matches(_ID, value["uuid"])
        and _is_count(value["round"])
    )


def _checked(
    data: bytes, path: Path, rules: Mapping[str, Any], optional: Mapping[str, Any]
) -> dict[str, Any]:
    values = parse_json(data, path)
    schema = values.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise RunDamagedError(
            f"{path} was written by a newer version of PXPO (format {schema}, this one reads "
            f"{SCHEMA}). Update the PXPO node pack."
        )
    wanted = {**rules, **{name: rule for name, rule in optional.items() if name in values}}
    for name, rule in wanted.items():
        if name not in values:
            raise RunDamagedError(f"{path}: the field {name} is missing.")
        if not rule(values[name]):
            raise RunDamagedError(f"{path}: the field {name} is not valid ({values[name]!r:.80}).")
    return {name: values[name] for name in wanted}
