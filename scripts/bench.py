#!/usr/bin/env python3
"""Measurements, each a program in benchmarks/.

    python3 scripts/bench.py kill --kills 50     what kill -9 does to a run
    python3 scripts/bench.py kill --help         every option of one of them

The last line of the output is JSON; the committed results are in benchmarks/results/.
"""

from __future__ import annotations

import os
import subprocess
import sys

from pxpo_dev import comfyui, environment
from pxpo_dev.paths import REPO

BENCHMARKS = REPO / "benchmarks"


def main() -> int:
    known = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        print(f"{__doc__}\nBenchmarks: {', '.join(known)}", file=sys.stderr)
        return 0 if {"-h", "--help"} & set(sys.argv[1:]) else 2
    try:
        env, comfy = comfyui.prepare(environment.TEST)
    except (environment.EnvironmentFailed, comfyui.ComfyUIMissing) as error:
        print(error, file=sys.stderr)
        return 1
    variables = {
        **os.environ,
        "COMFYUI_PATH": str(comfy.root),
        "GOMP_SPINCOUNT": "0",
        "PYTHONPATH": os.pathsep.join(
            str(path) for path in (REPO, REPO / "scripts", REPO / "tests" / "helpers")
        ),
    }
    command = [str(env.python), str(BENCHMARKS / f"{sys.argv[1]}.py"), *sys.argv[2:]]
    return subprocess.run(command, cwd=REPO, env=variables, check=False).returncode


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
