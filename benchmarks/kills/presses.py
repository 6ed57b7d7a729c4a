"""Presses of Run in the background, and the kill that ends them."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from host_prompts import training_graph
from pxpo_dev.client import Client, ExecutionFailed
from pxpo_dev.server import Server

SMALL = {
    "sampler": {"steps": 3},
    "update": {"train_steps": 2, "learning_rate": 0.01, "auto_stop": False},
}
LIMIT = 300.0


class Presses(threading.Thread):
    """Presses Run again and again, and keeps which rounds the server reported finished.

    stubborn: goes on after a press that failed, and keeps what was said.
    """

    def __init__(self, client: Client, name: str, rounds: int, stubborn: bool = False) -> None:
        super().__init__(daemon=True)
        self.client, self.name_of_run, self.rounds = client, name, rounds
        self.stubborn = stubborn
        self.reported: list[int] = []
        self.refused: list[str] = []
        self.failure = ""

    def run(self) -> None:
        try:
            while not self.reported or self.reported[-1] < self.rounds:
                self.press()
        except Exception as error:
            self.failure = f"{type(error).__name__}: {error}"

    def press(self) -> None:
        """One round."""
        try:
            result = self.client.run(training_graph(self.name_of_run, **SMALL), LIMIT)
        except ExecutionFailed as error:
            if not self.stubborn:
                raise
            self.refused.append(str(error))
        else:
            self.reported.append(int(result.ui("update", "pxpo_update")[0]["round"]))


def wait_for_writing(folder: Path, presses: Presses) -> None:
    """Return once a round is being written."""
    while presses.is_alive():
        try:
            if any(entry.name.startswith(".tmp-") for entry in folder.iterdir()):
                return
        except FileNotFoundError:
            pass
        time.sleep(0.0005)


def wait_for_round(presses: Presses) -> None:
    """Return once a round was reported, or a press failed."""
    while presses.is_alive() and not presses.reported and not presses.refused:
        time.sleep(0.01)


def kill(server: Server) -> None:
    """kill -9, and wait for the end."""
    server.kill()
    assert server.process is not None
    server.process.wait()
    server.stop()
