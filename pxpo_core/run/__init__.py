"""A run on disk: named rounds, written atomically, checked when read. Knows nothing of a host."""

from .deleting import DeletedRun
from .errors import (
    RunBusyError,
    RunDamagedError,
    RunError,
    RunMismatchError,
    RunNameError,
    RunWriteError,
    StaleRolloutError,
)
from .going_back import Branch, GoneBack, check_token
from .manifest import Manifest, RoundInfo
from .names import run_directory, validate_run_name
from .records import RoundRecord, RunHead
from .store import KEEP_LAST, RunStore

__all__ = [
    "KEEP_LAST",
    "Branch",
    "DeletedRun",
    "GoneBack",
    "Manifest",
    "RoundInfo",
    "RoundRecord",
    "RunBusyError",
    "RunDamagedError",
    "RunError",
    "RunHead",
    "RunMismatchError",
    "RunNameError",
    "RunStore",
    "RunWriteError",
    "StaleRolloutError",
    "check_token",
    "run_directory",
    "validate_run_name",
]
