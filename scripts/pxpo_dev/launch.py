"""Runs inside the environment: `python launch.py ComfyUI/main.py <arguments of ComfyUI>`."""

from __future__ import annotations

import importlib
import os
import runpy
import sys
import threading
from pathlib import Path

# Module-level on purpose: dropping the library would undefine its operators again.
_schemas: list[object] = []


def import_torchvision() -> None:
    """Import torchvision, also where its compiled operators cannot load.

    A torchvision built for CUDA beside a CPU torch fails on import for one reason: it describes
    two operators that its missing library would have defined. ComfyUI does not use them, so in that
    case, and only then, they are declared first.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
    else:
        return
    import torch

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _schemas.append(library)
    importlib.import_module("torchvision")


def end_with_parent() -> None:
    """End this process when the one that started it is gone, however it went (its pipe closes)."""

    def watch() -> None:
        while sys.stdin.buffer.read(1):
            pass
        os._exit(0)

    threading.Thread(target=watch, name="pxpo-end-with-parent", daemon=True).start()


def main() -> None:
    end_with_parent()
    import_torchvision()
    script = Path(sys.argv[1]).resolve()
    sys.argv = [str(script), *sys.argv[2:]]
    sys.path[0] = str(script.parent)
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main()
