"""One writer per run. The operating system drops the lock of a process that dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filelock

from .errors import RunBusyError

LOCK_NAME = ".lock"


@contextmanager
def writer_lock(folder: Path, timeout: float) -> Iterator[None]:
    """Hold the run's lock file; raises RunBusyError after `timeout` seconds."""
    lock = filelock.FileLock(folder / LOCK_NAME, timeout=timeout)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise RunBusyError(
            f"Run {folder.name} is being written by another process. Wait for it to finish, or "
            "use another run name."
        ) from None
    try:
        yield
    finally:
        lock.release()
