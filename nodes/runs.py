"""Where runs live on this host."""

from pathlib import Path

import folder_paths

from ..pxpo_core.run import KEEP_LAST, RunStore


def run_store(keep_last: int = KEEP_LAST) -> RunStore:
    """The runs below ComfyUI's output folder: output/pxpo/<run>/round_NNNN."""
    return RunStore(Path(folder_paths.get_output_directory()) / "pxpo", keep_last=keep_last)
