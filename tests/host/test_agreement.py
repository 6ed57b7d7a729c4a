"""A person's rounds that contradict each other move the model less, and the node says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from host_prompts import TINY, Graph, grey, painted, save_map
from pxpo_dev.server import Server

SAID = "your likes and dislikes contradict those of earlier rounds"
OPPOSITE = "You now say the opposite of earlier rounds"
HALF = TINY // 2


def test_rounds_that_contradict_each_other(
    server: Server,
    press: Callable[..., Graph],
    folder: Path,
    maps: Path,
) -> None:
    sides = np.full((TINY, TINY), -1.0)
    sides[:, :HALF] = 1.0

    def learn(signs: np.ndarray) -> tuple[dict[str, Any], str]:
        """A round with these signs: strong on one picture, weak on the other."""
        files = [grey(128 + level * signs) for level in (127, 50)]
        names = [save_map(maps, content) for content in files]
        result = server.client.run(painted(press(), *names))
        (numbers,) = result.ui("update", "pxpo_update")
        (text,) = result.ui("update", "text")
        return numbers, text

    numbers, text = learn(sides)
    assert numbers["agreement"] == 1.0
    assert SAID not in text
    # Top and bottom: what was liked before is now as often disliked as liked.
    numbers, text = learn(sides.T)
    assert numbers["round"] == 2
    assert numbers["agreement"] < 0.5
    assert SAID in text
    record = json.loads((folder / "round_0002" / "metrics.json").read_text(encoding="utf-8"))
    assert record["agreement"] == numbers["agreement"]
    for _ in range(3):
        numbers, text = learn(sides.T)
    assert numbers["agreement"] == 1.0
    assert SAID not in text
    assert OPPOSITE not in text
    numbers, text = learn(-sides.T)
    assert numbers["agreement"] == 1.0
    assert OPPOSITE in text
    numbers, text = learn(-sides.T)
    assert OPPOSITE not in text


def test_a_round_of_faint_marks_says_how_much_of_a_step_it_made(
    server: Server, press: Callable[..., Graph], maps: Path
) -> None:
    signs = np.full((TINY, TINY), -1.0)
    signs[:, :HALF] = 1.0
    texts = []
    for strong, weak in ((127, 50), (12, 5)):
        names = [save_map(maps, grey(128 + level * signs)) for level in (strong, weak)]
        texts += server.client.run(painted(press(), *names)).ui("update", "text")
    assert "of a full step" not in texts[0]
    assert "the model made 9% of a full step" in texts[1]
