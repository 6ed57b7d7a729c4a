"""What every model family does on the real ComfyUI, as figures with limits.

    python3 scripts/bench.py models                    every family this ComfyUI has
    python3 scripts/bench.py models sd15 flux          some; their rows in the result are replaced
    python3 scripts/bench.py models --page             only write docs/models.md from the results

The models are random and of reduced depth and width (tests/helpers/small_models.py); Toy Faces is
the trained demo model. Seconds and megabytes are those of the small models: they compare families
and hosts with each other, not with real ones. COMFYUI_PATH chooses the ComfyUI; the result of
another version than the pinned one goes into a file of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from pathlib import Path
from typing import Any

import torch
from families.host import start_host
from families.measurement import measure
from pxpo_dev import models_page
from pxpo_dev.comfyui import PINNED_VERSION
from pxpo_dev.paths import REPO

RESULTS = REPO / "benchmarks" / "results"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", help="names; none: all")
    parser.add_argument("--page", action="store_true", help="only render docs/models.md")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    arguments = parser.parse_args()
    if arguments.page:
        models_page.write()
        return 0
    torch.set_num_threads(arguments.threads)
    version = start_host()
    import small_models

    known = (*small_models.available(), small_models.TOY_FACES, *small_models.noisier())
    unknown = set(arguments.families) - set(known)
    if unknown:
        parser.error(f"ComfyUI {version} has no {', '.join(sorted(unknown))}; it has {known}")
    path = RESULTS / ("models.json" if version == PINNED_VERSION else f"models_{version}.json")
    rows = {row["family"]: row for row in _read(path)} if arguments.families else {}
    for name in arguments.families or known:
        try:
            rows[name] = measure(name, version)
        except Exception as error:  # one family must not hide the others
            traceback.print_exc()
            rows[name] = {"family": name, "host": version, "error": str(error), "pass": False}
        print(name, "pass" if rows[name]["pass"] else "FAIL", flush=True)
        _write(path, [rows[name] for name in known if name in rows])
    models_page.write()
    failed = [name for name, row in rows.items() if not row["pass"]]
    print(json.dumps({"families": len(rows), "failed": failed}))
    return 1 if failed else 0


def _read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["families"] if path.exists() else []


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"families": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
