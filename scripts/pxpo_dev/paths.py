"""Where the development tools keep their files."""

from __future__ import annotations

import os
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SCRIPTS = REPO / "scripts"
EXAMPLE_WORKFLOW = REPO / "example_workflows" / "PXPO_Less_Blue.json"

# One git-ignored folder holds the environment, ComfyUI and the demo's data. PXPO_HOME moves it, for
# example to share one environment between several clones.
HOME = Path(os.environ.get("PXPO_HOME") or REPO / ".pxpo").resolve()
