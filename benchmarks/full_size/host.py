"""ComfyUI in this process, on the CPU."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pxpo_dev.comfyui import ComfyUI, read
from pxpo_dev.launch import import_torchvision


def import_comfyui() -> ComfyUI:
    """Make `comfy` importable; its path comes from COMFYUI_PATH, which bench.py sets."""
    checkout = read(Path(os.environ["COMFYUI_PATH"]).resolve())
    import_torchvision()
    sys.path.insert(0, str(checkout.root))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    return checkout
