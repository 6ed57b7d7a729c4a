"""A disk that fills up and a file that nobody may write, for as long as wanted."""

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MB = 1024 * 1024
PAGE = 4096


class Unavailable(RuntimeError):
    """This machine does not allow the fault; the message says why."""


class SmallDisk:
    """A disk in memory at `place`, full when wanted. Needs the right to mount (Linux, root)."""

    def __init__(self, place: Path, size: int = 256 * MB) -> None:
        self.place, self.size = place, size

    def __enter__(self) -> SmallDisk:
        self.place.mkdir(parents=True, exist_ok=True)
        _mount("-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", str(self.place))
        return self

    def __exit__(self, *_: object) -> None:
        _unmount(self.place)

    @contextmanager
    def full(self, draw: random.Random) -> Iterator[None]:
        """Leaves room for a few files at most; with luck a write that is under way runs out."""
        for _ in range(100):
            room = draw.randrange(0, 48) * PAGE
            with suppress(Unavailable):  # it grew meanwhile
                self._resize(shutil.disk_usage(self.place).used + room)
                break
        else:
            raise Unavailable(f"{self.place} could not be made smaller.")
        try:
            yield
        finally:
            self._resize(self.size)

    def _resize(self, size: int) -> None:
        _mount("-o", f"remount,size={max(size, PAGE)}", str(self.place))


@contextmanager
def read_only(path: Path) -> Iterator[None]:
    """Nobody may write, replace or (for a folder) add to `path`; for root, by a mount."""
    mode = stat.S_IMODE(path.stat().st_mode)
    path.chmod(mode & ~0o222)
    if not os.access(path, os.W_OK):
        try:
            yield
        finally:
            path.chmod(mode)
        return
    path.chmod(mode)  # root may write it all the same
    _mount("--bind", str(path), str(path))
    try:
        _mount("-o", "remount,ro,bind", str(path))
        yield
    finally:
        _unmount(path)


def _mount(*arguments: str) -> None:
    try:
        done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unavailable(f"mount cannot be run here ({error}).") from None
    if done.returncode != 0:
        raise Unavailable(f"mount is not allowed here ({done.stderr.strip()}).")


def _unmount(path: Path) -> None:
    for _ in range(50):
        if subprocess.run(["umount", str(path)], capture_output=True, check=False).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "-l", str(path)], capture_output=True, check=False)
