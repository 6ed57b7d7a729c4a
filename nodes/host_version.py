"""The oldest ComfyUI this pack works on, and what only newer ones know."""

import re
from dataclasses import fields
from typing import Any

OLDEST = (0, 3, 75)


def require_supported_host() -> None:
    """Raise RuntimeError with what to do when ComfyUI is too old."""
    from comfyui_version import __version__

    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", __version__)
    if numbers and tuple(int(part) for part in numbers.groups()) < OLDEST:
        raise RuntimeError(
            f"PXPO needs ComfyUI {'.'.join(map(str, OLDEST))} or newer, and this is {__version__}. "
            "Update ComfyUI (in ComfyUI Manager: Update ComfyUI; with git: git pull, then "
            "pip install -r requirements.txt) and restart it."
        )


def when_known(**arguments: Any) -> dict[str, Any]:
    """Those arguments of io.Schema that this host has; newer ones are left out on older hosts."""
    from comfy_api.latest import io

    known = {field.name for field in fields(io.Schema)}
    return {name: value for name, value in arguments.items() if name in known}
