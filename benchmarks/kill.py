"""kill -9 the server at random moments of 10-round runs, and look at what is left.

    python3 scripts/bench.py kill --kills 50

One run is trained without a kill first. Then runs of the same inputs are trained and the server is
killed again and again: at a moment drawn evenly from the time that the rounds take (--kills), and,
since a round is written in a small part of that time, also while a round's temporary folder exists
(--while-writing). After every kill, before the server starts again, the run is opened: every round
that was reported finished must be there, unchanged, and every round must equal, bit for bit, the
one of the run that was never killed. The next server must then continue from there.

lost: rounds that were reported finished and are not there. corrupt: runs that cannot be opened,
rounds that changed after they were reported, and rounds that differ from the undisturbed run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from host_prompts import training_graph
from pxpo_dev.client import Client
from pxpo_dev.comfyui import base_directory, commit, read
from pxpo_dev.environment import Environment
from pxpo_dev.paths import HOME, REPO
from pxpo_dev.server import Server

from pxpo_core.run import RunError, RunStore

RESULT = REPO / "benchmarks" / "results" / "kill.json"
SMALL = {"sampler": {"steps": 3}, "update": {"train_steps": 2, "learning_rate": 0.01}}
LIMIT = 300.0


@dataclass
class Findings:
    """What the kills did."""

    kills: int = 0
    while_writing: int = 0
    lost: int = 0
    corrupt: int = 0
    rounds_reported: int = 0
    rounds_checked: int = 0
    unfinished_folders: int = 0
    problems: list[str] = field(default_factory=list)

    def problem(self, kind: str, text: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        self.problems.append(text)
        print(f"  {kind.upper()}: {text}", flush=True)


class Presses(threading.Thread):
    """Presses Run again and again, and keeps which rounds the server reported finished."""

    def __init__(self, client: Client, name: str, rounds: int) -> None:
        super().__init__(daemon=True)
        self.client, self.name_of_run, self.rounds = client, name, rounds
        self.reported: list[int] = []
        self.failure = ""

    def run(self) -> None:
        try:
            while not self.reported or self.reported[-1] < self.rounds:
                result = self.client.run(training_graph(self.name_of_run, **SMALL), LIMIT)
                self.reported.append(int(result.ui("update", "pxpo_update")[0]["round"]))
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"


def digests(store: RunStore, name: str) -> list[str]:
    """The LoRA of every round, fully read and checked."""
    head = store.head(name)
    count = 0 if head is None else head.round
    return [store.policy(name, number).digest for number in range(1, count + 1)]


def wait_for_writing(folder: Path, presses: Presses) -> None:
    """Return once a round is being written."""
    while presses.is_alive():
        try:
            if any(entry.name.startswith(".tmp-") for entry in folder.iterdir()):
                return
        except FileNotFoundError:
            pass
        time.sleep(0.0005)


def kill_once(server: Server, name: str, moment: float, writing: bool, rounds: int) -> list[int]:
    """Train until the moment, kill the server, and return the rounds it had reported."""
    presses = Presses(server.client, name, rounds)
    presses.start()
    if writing:
        wait_for_writing(server.base / "output" / "pxpo" / name, presses)
    else:
        presses.join(moment)
    server.kill()
    assert server.process is not None
    server.process.wait()
    server.stop()
    presses.join()
    return presses.reported


def check(
    store: RunStore, name: str, known: dict[int, str], expected: list[str], found: Findings
) -> int:
    """Open the run and compare; known: digests of reported rounds. Returns the run's round."""
    try:
        made = digests(store, name)
        assert len(store.history(name)) == len(made)
    except (RunError, AssertionError) as error:
        found.problem("corrupt", f"{name} cannot be opened: {error}")
        return -1
    found.rounds_checked += len(made)
    for number, digest in known.items():
        if number > len(made):
            found.problem("lost", f"{name} round {number} was reported and is not there")
        elif digest and made[number - 1] != digest:
            found.problem("corrupt", f"{name} round {number} changed")
    for number, digest in enumerate(made, start=1):
        if digest != expected[number - 1]:
            found.problem("corrupt", f"{name} round {number} differs from the undisturbed run")
        known[number] = digest
    return len(made)


def measure(options: argparse.Namespace, server: Server) -> dict[str, Any]:
    """The whole measurement."""
    draw = random.Random(options.seed)
    store = RunStore(server.base / "output" / "pxpo")
    found = Findings()
    begun = time.monotonic()
    server.start()
    started = time.monotonic()
    Presses(server.client, "warm up", 1).run()
    first = time.monotonic() - started
    started = time.monotonic()
    undisturbed = Presses(server.client, "undisturbed", options.rounds)
    undisturbed.run()
    seconds = time.monotonic() - started
    if undisturbed.failure:
        raise SystemExit(f"Training does not work: {undisturbed.failure}")
    expected = digests(store, "undisturbed")
    server.stop()
    print(f"{options.rounds} rounds without a kill: {seconds:.1f} s", flush=True)

    # The first press of a fresh server loads the model; a kill may fall into that too.
    longest = first + seconds / options.rounds * options.span
    plan = [False] * options.kills + [True] * options.while_writing
    draw.shuffle(plan)
    run, known = 1, dict[int, str]()
    for number, writing in enumerate(plan, start=1):
        name = f"run {run}"
        server.start()
        moment = draw.uniform(0.0, longest)
        reported = kill_once(server, name, moment, writing, options.rounds)
        found.kills += not writing
        found.while_writing += writing
        found.rounds_reported += len(reported)
        folder = store.root / name
        if folder.is_dir():
            found.unfinished_folders += sum(p.name.startswith(".tmp-") for p in folder.iterdir())
        before = max(known, default=0)
        if reported and reported[0] != before + 1:
            found.problem("lost", f"{name} went on with round {reported[0]} after {before}")
        known |= {r: known.get(r, "") for r in reported}
        reached = check(store, name, known, expected, found)
        how = "writing" if writing else f"{moment:.1f} s"
        print(f"kill {number} of {len(plan)} ({how}): {name} at round {reached}", flush=True)
        if reached < 0 or reached >= options.rounds:
            run, known = run + 1, {}
    # The run that was killed last is finished by a last server.
    server.start()
    last = Presses(server.client, f"run {run}", options.rounds)
    last.run()
    server.stop()
    if last.failure:
        found.problem("corrupt", f"run {run} does not continue: {last.failure}")
    check(store, f"run {run}", known, expected, found)
    return {
        "kills": found.kills,
        "lost": found.lost,
        "corrupt": found.corrupt,
        "kills_while_writing": found.while_writing,
        "runs": run,
        "rounds_per_run": options.rounds,
        "rounds_reported": found.rounds_reported,
        "rounds_compared": found.rounds_checked,
        "unfinished_folders_left_by_kills": found.unfinished_folders,
        "seconds_per_round": round(seconds / options.rounds, 2),
        "longest_moment": round(longest, 2),
        "seconds": round(time.monotonic() - begun),
        "problems": found.problems,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="kills at a random moment")
    parser.add_argument(
        "--while-writing", type=int, default=10, help="further kills while a round is written"
    )
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
    return 1 if result["lost"] or result["corrupt"] else 0


if __name__ == "__main__":
    sys.exit(main())
