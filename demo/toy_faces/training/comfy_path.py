"""Makes a ComfyUI checkout importable for the training and evaluation commands."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

_KEPT: list[object] = []


def use_comfyui(path: str | None) -> None:
    """Make ComfyUI (argument, else COMFYUI_PATH) importable, on the CPU without an accelerator."""
    root = path or os.environ.get("COMFYUI_PATH")
    if root:
        if not (Path(root) / "comfy" / "sd.py").is_file():
            raise SystemExit(f"{root} is not a ComfyUI folder (comfy/sd.py is missing)")
        sys.path.insert(0, str(Path(root).resolve()))
    elif importlib.util.find_spec("comfy") is None:
        raise SystemExit("ComfyUI is not importable: give --comfyui PATH or set COMFYUI_PATH")
    _repair_torchvision()
    _choose_device()


def _repair_torchvision() -> None:
    """Beside a CPU torch, a CUDA torchvision lacks two operator schemas: declare them."""
    import torch

    try:
        importlib.import_module("torchvision")
    except (RuntimeError, OSError):
        for name in [m for m in sys.modules if m.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        for op in ("nms", "qnms"):
            library.define(op + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
        importlib.import_module("torchvision")


def _choose_device() -> None:
    """Tell ComfyUI to use the CPU where torch has no accelerator."""
    import torch

    if not torch.cuda.is_available():
        importlib.import_module("comfy.cli_args").args.cpu = True
