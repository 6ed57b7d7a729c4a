"""The newest web UI, beside the one that the pinned ComfyUI names: the browser tests need both."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .environment import Environment
from .paths import HOME

NEWEST = "1.58.1"
STATIC = Path("comfyui_frontend_package") / "static"
MISSING = f"frontend {NEWEST} is not there (python3 scripts/test.py fetches it)."


def find() -> Path | None:
    """Its static folder, for --front-end-root. PXPO_FRONTEND names another one."""
    named = os.environ.get("PXPO_FRONTEND")
    root = Path(named) if named else HOME / f"frontend-{NEWEST}" / STATIC
    return root if (root / "index.html").is_file() else None


def fetch(environment: Environment) -> None:
    """Get it from PyPI once; a line says so when that fails."""
    if find() is not None:
        return
    target = HOME / f"frontend-{NEWEST}"
    result = subprocess.run(
        [
            str(environment.python),
            *("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"),
            *("--target", str(target), f"comfyui-frontend-package=={NEWEST}"),
        ],
        check=False,
    )
    if result.returncode or find() is None:
        print(f"Tests on the newest web UI are skipped: pip could not get {NEWEST}.", flush=True)
