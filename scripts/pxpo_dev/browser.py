"""Find a Chromium for the browser tests."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "msedge",
)
PLACES = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    r"C:\Program Files\Google\Chrome\Application\chrome.exe",
    r"C:\Program Files (x86)\Microsoft\Edge\Application\msedge.exe",
)
MISSING = (
    "no Chromium, Chrome or Edge was found (install one, or set PXPO_CHROMIUM to its program file)."
)


def find() -> str | None:
    """The program file of an installed Chromium, Chrome or Edge."""
    named = os.environ.get("PXPO_CHROMIUM")
    if named:
        return named if Path(named).is_file() else None
    for name in NAMES:
        program = shutil.which(name)
        if program:
            return program
    return next((place for place in PLACES if Path(place).is_file()), None)
