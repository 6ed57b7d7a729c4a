"""How far a round goes, chosen by a word."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from host_prompts import Graph, rounds
from pxpo_dev.server import Server


def test_a_preset_takes_the_place_of_the_learning_rate(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    for preset in ("strong", "custom"):
        server.client.run(press(update={"preset": preset, "learning_rate": 0.0123}))
    settings = [
        json.loads((folder / name / "settings.json").read_text("utf-8")) for name in rounds(folder)
    ]
    assert [s["learning_rate"] for s in settings] == [0.003, 0.0123]
