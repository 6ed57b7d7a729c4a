"""A real ComfyUI in this process, on the CPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pxpo_dev.comfyui import read
from pxpo_dev.launch import import_torchvision
from pxpo_dev.paths import HOME


def start_host() -> str:
    """Make `comfy` importable from COMFYUI_PATH (or the fetched one); returns its version."""
    comfyui = read(Path(os.environ.get("COMFYUI_PATH") or HOME / "ComfyUI").resolve())
    import_torchvision()
    sys.path.insert(0, str(comfyui.root))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    return comfyui.version
