"""kill -9 the server at random moments of 10-round runs, and look at what is left.

    python3 scripts/bench.py kill --kills 50

One run is trained without a kill first. Then runs of the same inputs are trained and the server is
killed again and again:

--kills          at a moment drawn evenly from the time that the rounds take;
--while-writing  while a round's temporary folder exists: a small part of that time;
--disk-full      while the disk is full, which it became at a random moment or during a write;
--read-only      while a file of the run, or its folder, cannot be written.

After every kill, before the server starts again, the run is opened: every round that was reported
finished must be there, unchanged, and every round must equal, bit for bit, the one of the run that
was never killed. The next server must then continue from there. The last two need the right to
mount (Linux, root), the last one also works for any other user; without it a line says so.

lost: rounds that were reported finished and are not there. corrupt: runs that cannot be opened,
rounds that changed after they were reported, and rounds that differ from the undisturbed run.
unclear: presses that failed without a sentence about the disk or the file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from kills.measurement import measure
from pxpo_dev.comfyui import base_directory, commit, read
from pxpo_dev.environment import Environment
from pxpo_dev.paths import HOME, REPO
from pxpo_dev.server import Server

RESULT = REPO / "benchmarks" / "results" / "kill.json"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="kills at a random moment")
    parser.add_argument(
        "--while-writing", type=int, default=5, help="further kills while a round is written"
    )
    parser.add_argument("--disk-full", type=int, default=5, help="... while the disk is full")
    parser.add_argument("--read-only", type=int, default=5, help="... while a file is read-only")
    parser.add_argument("--rounds", type=int, default=10, help="rounds of a run")
    parser.add_argument(
        "--span", type=float, default=4.0, help="latest moment of a kill, in rounds after the first"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()

    comfy = read(Path(os.environ["COMFYUI_PATH"]))
    HOME.mkdir(parents=True, exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="kill-", dir=HOME))
    server = Server(Environment(Path(sys.prefix)), comfy, base_directory(base))
    try:
        result = measure(options, server)
    finally:
        server.stop()
        shutil.rmtree(base, ignore_errors=True)
    result |= {
        "seed": options.seed,
        "comfyui": comfy.version,
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 1 if result["lost"] or result["corrupt"] or result["unclear"] else 0


if __name__ == "__main__":
    sys.exit(main())
