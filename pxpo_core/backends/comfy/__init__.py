"""ComfyUI as the host: the only package of `pxpo_core` that imports `comfy`."""
