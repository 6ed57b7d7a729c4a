"""Kills on one server, and the run after each of them."""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from pxpo_dev.server import Server

from pxpo_core.run import RunStore

from .faults import SmallDisk, Unavailable, read_only
from .findings import Findings, check, digests, unfinished
from .presses import Presses, kill, wait_for_round, wait_for_writing

CLEAR = ("could not be written", "MB free")
"""What a press that fails must say."""
IN_ROUND = ("lora.safetensors", "round.json")
PARTS = (".", ".lock", "manifest.json", *IN_ROUND)
"""Of a run's folder, the folder itself first; those IN_ROUND are of its newest round."""


class Measurement:
    """Kills on one server."""

    def __init__(self, options: argparse.Namespace, server: Server) -> None:
        self.options, self.server = options, server
        self.store = RunStore(server.base / "output" / "pxpo")
        self.draw = random.Random(options.seed)
        self.found = Findings()
        self.expected: list[str] = []
        self.first = self.round = 0.0
        self.runs = 0

    def undisturbed(self) -> None:
        """The run that is never killed, and how long a first and a later press take."""
        if self.server.process is None:
            self.server.start()
        started = time.monotonic()
        Presses(self.server.client, "warm up", 1).run()
        self.first = time.monotonic() - started
        started = time.monotonic()
        presses = Presses(self.server.client, "undisturbed", self.options.rounds)
        presses.run()
        if presses.failure:
            raise SystemExit(f"Training does not work: {presses.failure}")
        seconds = time.monotonic() - started
        self.round = seconds / self.options.rounds
        self.expected = digests(self.store, "undisturbed")
        print(f"{self.options.rounds} rounds without a kill: {seconds:.1f} s", flush=True)

    def kill_again_and_again(self) -> None:
        """Kills at random moments and while writing; every server goes on with the same run."""
        plan = [False] * self.options.kills + [True] * self.options.while_writing
        self.draw.shuffle(plan)
        name, known = self._new_run("run"), dict[int, str]()
        for number, writing in enumerate(plan, start=1):
            self.server.start()
            # The first press of a fresh server loads the model; a kill may fall into that too.
            moment = self.draw.uniform(0.0, self.first + self.round * self.options.span)
            presses = Presses(self.server.client, name, self.options.rounds)
            presses.start()
            if writing:
                wait_for_writing(self.store.root / name, presses)
            else:
                presses.join(moment)
            kill(self.server)
            presses.join()
            self.found.kills += not writing
            self.found.while_writing += writing
            reached = self._account(name, known, presses)
            how = "writing" if writing else f"{moment:.1f} s"
            print(f"kill {number} of {len(plan)} ({how}): {name} at round {reached}", flush=True)
            if reached < 0 or reached >= self.options.rounds:
                name, known = self._new_run("run"), {}
        # The run that was killed last is finished by a last server.
        self.server.start()
        last = Presses(self.server.client, name, self.options.rounds)
        last.run()
        self.server.stop()
        if last.failure:
            self.found.problem("corrupt", f"{name} does not continue: {last.failure}")
        self._account(name, known, last)

    def kill_with_full_disk(self) -> None:
        """Kills while the disk of the runs is full; the next server starts on the full disk."""
        try:
            with SmallDisk(self.store.root) as disk:
                for number in range(1, self.options.disk_full + 1):
                    self._kill_with(f"disk full {number}", lambda _: disk.full(self.draw))
                    self.found.disk_full += 1
        except Unavailable as error:
            self._skip("full disk", error)

    def kill_with_read_only_files(self, parts: Sequence[str]) -> None:
        """Kills while one part of the run after the other is read-only; see PARTS."""
        try:
            for number, part in enumerate(parts, start=1):
                self._kill_with(f"read only {number}", partial(_read_only_part, part))
                self.found.read_only += 1
        except Unavailable as error:
            self._skip("read-only file", error)

    def _kill_with(self, name: str, fault: Callable[[Path], AbstractContextManager[None]]) -> None:
        """Train, let the fault begin, kill, start again with the fault, end it, and go on."""
        self.runs += 1
        folder, known = self.store.root / name, dict[int, str]()
        if self.server.process is None:
            self.server.start()
        presses = Presses(self.server.client, name, self.options.rounds, stubborn=True)
        presses.start()
        wait_for_round(presses)
        if not presses.reported:
            raise SystemExit(f"Training does not work: {presses.failure or presses.refused}")
        if self.draw.random() < 0.5:
            wait_for_writing(folder, presses)
        else:
            presses.join(self.draw.uniform(0.0, 2 * self.round))
        with fault(folder):
            presses.join(self.draw.uniform(0.0, 4 * self.round))
            kill(self.server)
            presses.join()
            reached = self._account(name, known, presses)
            self.server.start()
            again = self._press(name)
            self._account(name, known, again)
        after = self._press(name)
        if after.reported != [max(known, default=0) + 1]:
            self.found.problem("corrupt", f"{name} does not continue: {after.refused}")
        self._account(name, known, after)
        said = presses.refused + again.refused
        self.found.refused += len(said)
        for text in said:
            if not any(words in text for words in CLEAR):
                self.found.problem("unclear", f"{name}: {text}")
        print(
            f"kill ({name}): at round {reached}, {len(said)} presses refused, then round "
            f"{max(known)}",
            flush=True,
        )

    def _press(self, name: str) -> Presses:
        """One more round of the run."""
        presses = Presses(self.server.client, name, self.options.rounds, stubborn=True)
        presses.press()
        return presses

    def _account(self, name: str, known: dict[int, str], presses: Presses) -> int:
        """Count what was reported, and compare the run with it. Returns the run's round."""
        reported = presses.reported
        self.found.rounds_reported += len(reported)
        self.found.unfinished_folders += unfinished(self.store, name)
        before = max(known, default=0)
        if reported and reported[0] != before + 1:
            self.found.problem("lost", f"{name} went on with round {reported[0]} after {before}")
        known |= {r: known.get(r, "") for r in reported}
        return check(self.store, name, known, self.expected, self.found)

    def _new_run(self, kind: str) -> str:
        self.runs += 1
        return f"{kind} {self.runs}"

    def _skip(self, what: str, error: Unavailable) -> None:
        text = f"Skipped the kills with a {what}: {error}"
        self.found.skipped.append(text)
        print(text, flush=True)


def _read_only_part(part: str, folder: Path) -> AbstractContextManager[None]:
    newest = sorted(folder.glob("round_*"))[-1]
    return read_only(newest / part if part in IN_ROUND else folder / part)


def measure(options: argparse.Namespace, server: Server) -> dict[str, Any]:
    """The whole measurement."""
    begun = time.monotonic()
    measurement = Measurement(options, server)
    measurement.undisturbed()
    server.stop()
    measurement.kill_again_and_again()
    measurement.kill_with_read_only_files([PARTS[i % len(PARTS)] for i in range(options.read_only)])
    server.stop()
    measurement.kill_with_full_disk()
    server.stop()
    found = measurement.found
    return {
        "kills": found.kills,
        "lost": found.lost,
        "corrupt": found.corrupt,
        "unclear": found.unclear,
        "kills_while_writing": found.while_writing,
        "kills_with_full_disk": found.disk_full,
        "kills_with_read_only_file": found.read_only,
        "presses_refused_with_a_sentence": found.refused - found.unclear,
        "runs": measurement.runs,
        "rounds_per_run": options.rounds,
        "rounds_reported": found.rounds_reported,
        "rounds_compared": found.rounds_checked,
        "unfinished_folders_left_by_kills": found.unfinished_folders,
        "seconds_per_round": round(measurement.round, 2),
        "longest_moment": round(measurement.first + measurement.round * options.span, 2),
        "seconds": round(time.monotonic() - begun),
        "skipped": found.skipped,
        "problems": found.problems,
    }
