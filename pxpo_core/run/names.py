"""Run names and the one folder a name may stand for."""

import os
import re
from pathlib import Path

from .errors import RunNameError

MAX_LENGTH = 64

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,63}", re.ASCII)
_RESERVED = {
    "con", "prn", "aux", "nul",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}  # fmt: skip


def validate_run_name(name: str) -> str:
    """Return the name, or raise RunNameError with the rule and the offending value."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None or name.endswith(" "):
        raise RunNameError(
            f"{_shown(name)} cannot be a run name. Use 1 to {MAX_LENGTH} letters (a-z), digits, "
            "spaces, hyphens and underscores, starting with a letter or digit and not ending with "
            "a space."
        )
    if name.lower() in _RESERVED:
        raise RunNameError(f"{_shown(name)} cannot be a run name: Windows reserves it for devices.")
    return name


def run_directory(root: Path, name: str) -> Path:
    """The folder of a run (it need not exist), always a direct child of `root`.

    Raises RunNameError when the name is bad, or the folder is a link, a file, or another run's
    whose name differs only in capitals (one folder on Windows and macOS).
    """
    validate_run_name(name)
    real_root = Path(os.path.realpath(root))
    folder = real_root / name
    # realpath sees Windows junctions too; is_symlink sees a link to itself.
    if folder.is_symlink() or _normal(os.path.realpath(folder)) != _normal(folder):
        raise RunNameError(f"Run {name}: {folder} is a link. Replace it by a plain folder.")
    existing = _entries(real_root)
    if name not in existing:
        for other in existing:
            if other.lower() == name.lower():
                raise RunNameError(
                    f"There is already a run named {_shown(other)}, and {_shown(name)} differs "
                    "only in capitals. Use its exact name, or another one."
                )
    elif not folder.is_dir():
        raise RunNameError(f"Run {name}: {folder} is not a folder. Move it away.")
    return folder


def _normal(path: Path | str) -> str:
    return os.path.normcase(str(path))


def _entries(root: Path) -> set[str]:
    try:
        return set(os.listdir(root))
    except FileNotFoundError:
        return set()
    except OSError as error:
        raise RunNameError(f"The folder of all runs, {root}, cannot be read: {error}.") from None


def _shown(name: object) -> str:
    text = name if isinstance(name, str) else repr(name)
    return ascii(text if len(text) <= MAX_LENGTH + 8 else text[:MAX_LENGTH] + "...")
