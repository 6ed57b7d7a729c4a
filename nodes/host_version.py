"""The oldest ComfyUI this pack works on, checked once when the pack is loaded."""

import re

OLDEST = (0, 3, 75)


def require_supported_host() -> None:
    """Raise RuntimeError with what to do when ComfyUI is too old."""
    from comfyui_version import __version__

    numbers = re.match(r"(\d+)\.(\d+)\.(\d+)", __version__)
    if numbers and tuple(int(part) for part in numbers.groups()) < OLDEST:
        raise RuntimeError(
            f"PXPO needs ComfyUI {'.'.join(map(str, OLDEST))} or newer, and this is {__version__}. "
            "Please update ComfyUI."
        )
