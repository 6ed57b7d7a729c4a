"""The two small JSON documents of a run: manifest.json and each round's round.json."""

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

_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_FILE = re.compile(r"[a-z]+(_\d{2,6})?\.(safetensors|json|png|jpg)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Manifest:
    """What stays the same over a run. base: fingerprint of the model; lora: LoRAConfig fields."""

    uuid: str
    name: str
    base: str
    lora: Mapping[str, Any]
    created: str
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> "Manifest":
        """Raises RunDamagedError naming the file and the field."""
        values = _checked(data, path, _MANIFEST_FIELDS)
        return cls(**values)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size and sha256 of one file of a round."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class RoundInfo:
    """What round.json says: who this round is, what it follows, and what belongs to it."""

    id: str
    run: str
    round: int
    previous: str | None
    policy: str
    created: str
    reward_scale: float
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    schema: int = SCHEMA

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> "RoundInfo":
        """Raises RunDamagedError naming the file and the field."""
        values = _checked(data, path, _ROUND_FIELDS)
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


def _checked(data: bytes, path: Path, rules: Mapping[str, Any]) -> dict[str, Any]:
    values = parse_json(data, path)
    schema = values.get("schema")
    if isinstance(schema, int) and schema > SCHEMA:
        raise RunDamagedError(
            f"{path} was written by a newer version of PXPO (format {schema}, this one reads "
            f"{SCHEMA}). Update the PXPO node pack."
        )
    for name, rule in rules.items():
        if name not in values:
            raise RunDamagedError(f"{path}: the field {name} is missing.")
        if not rule(values[name]):
            raise RunDamagedError(f"{path}: the field {name} is not valid ({values[name]!r:.80}).")
    return {name: values[name] for name in rules}
