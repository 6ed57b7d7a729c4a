"""Saving space: old rounds lose their optimizer state and all thumbnails but the first.

The LoRA, the reward maps, the numbers and what the run remembers stay for good.
"""

import logging
import os
import re
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from . import files
from .manifest import ROUND_NAME, RoundInfo
from .reading import OPTIMIZER_NAME, remove_leftovers, round_folder

logger = logging.getLogger(__name__)

_SPARE_THUMBNAIL = re.compile(r"thumb_(?!00\.)\d{2,6}\.jpg", re.ASCII)


def thin(folder: Path, rounds: Sequence[RoundInfo], keep_last: int) -> None:
    """Thin all but the newest `keep_last` rounds (0: keep everything). The run's lock is held.

    A round says that it is thinned before anything is removed; its optimizer state goes last, so
    that its presence tells an interrupted thinning.
    """
    for info in rounds[:-keep_last] if keep_last > 0 else ():
        path = round_folder(folder, info.round)
        try:
            if not info.thinned:
                _declare(path, info)
            elif files.plain_size(path / OPTIMIZER_NAME) is None:
                continue
            for name in os.listdir(path):
                if _SPARE_THUMBNAIL.fullmatch(name):
                    (path / name).unlink()
            (path / OPTIMIZER_NAME).unlink(missing_ok=True)
        except OSError as error:
            logger.warning("Could not thin %s: %s", path, error)


def _declare(folder: Path, info: RoundInfo) -> None:
    kept = {
        name: entry
        for name, entry in info.files.items()
        if name != OPTIMIZER_NAME and not _SPARE_THUMBNAIL.fullmatch(name)
    }
    data = files.json_bytes(replace(info, files=kept, thinned=True).to_dict(), ROUND_NAME)
    remove_leftovers(folder)
    files.replace_durably(folder / ROUND_NAME, folder / f".tmp-{uuid.uuid4().hex}", data)
