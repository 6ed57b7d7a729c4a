"""PXPO: teach an image model by painting on its pictures. Entry point of the ComfyUI node pack.

Importing it outside ComfyUI does nothing; the nodes are loaded when the host asks for them.
"""

import sys
from typing import Any

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]

if "comfyui_version" in sys.modules:
    # Inside ComfyUI. Here, because hosts before 0.3.50 do not know the entry point below and
    # would pass the pack over with a line that helps nobody.
    from .nodes.host_version import require_supported_host

    require_supported_host()


async def comfy_entrypoint() -> Any:
    """Called by ComfyUI; returns the extension that lists the nodes."""
    from .nodes.extension import PXPOExtension

    return PXPOExtension()
