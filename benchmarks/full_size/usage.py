"""Time and memory of a piece of work, on a machine that may be busy with other things."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

INTERVAL = 0.02


@dataclass
class Usage:
    """cpu_seconds: of all threads, which other processes disturb less than wall_seconds.

    peak_bytes: the most this process had at once; start_bytes: before the work.
    """

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    start_bytes: int = 0
    peak_bytes: int = 0

    def as_dict(self) -> dict[str, float]:
        return {
            "wall_seconds": round(self.wall_seconds, 2),
            "cpu_seconds": round(self.cpu_seconds, 2),
            "peak_gb": gigabytes(self.peak_bytes),
            "above_start_gb": gigabytes(self.peak_bytes - self.start_bytes),
        }


@contextmanager
def measured() -> Iterator[Usage]:
    """Watches this process' resident memory 50 times a second."""
    usage = Usage(start_bytes=resident_bytes())
    done = threading.Event()

    def watch() -> None:
        while not done.wait(INTERVAL):
            usage.peak_bytes = max(usage.peak_bytes, resident_bytes())

    watcher = threading.Thread(target=watch, daemon=True)
    usage.peak_bytes = usage.start_bytes
    watcher.start()
    wall, cpu = time.perf_counter(), time.process_time()
    try:
        yield usage
    finally:
        usage.wall_seconds = time.perf_counter() - wall
        usage.cpu_seconds = time.process_time() - cpu
        done.set()
        watcher.join()


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def gigabytes(size: int) -> float:
    return round(size / 1024**3, 2)
