"""A small file in a run's folder for those who show the run: overview.json.

It repeats what the rounds say, and nothing reads it back: it may be missing or out of date.
"""

import logging
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import files
from .errors import RunError

logger = logging.getLogger(__name__)

OVERVIEW_NAME = "overview.json"


def write_overview(folder: Path, overview: Mapping[str, Any]) -> None:
    """Write overview.json unless it says this already: the folder's time of change counts.

    folder: an existing run's. A failure is logged only, as no work depends on the file.
    """
    path = folder / OVERVIEW_NAME
    try:
        data = files.json_bytes(dict(overview), OVERVIEW_NAME)
        if files.plain_size(path) == len(data) and path.read_bytes() == data:
            return
        if os.path.isdir(path) and not path.is_symlink():
            raise IsADirectoryError(f"{path} is a folder")
        files.replace_durably(path, folder / f".tmp-{uuid.uuid4().hex}", data)
    except (OSError, RunError) as error:
        logger.warning("The overview of %s was not written: %s", folder, error)
