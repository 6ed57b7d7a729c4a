"""A person's rounds that contradict each other move the model less, and the node says so."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from host_prompts import TINY, Graph, save_map
from PIL import Image
from pxpo_dev.server import Server

SAID = "your likes and dislikes contradict those of earlier rounds"
HALF = TINY // 2


def grey(levels: np.ndarray) -> bytes:
    """A PNG file with these grey levels."""
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "PNG")
    return buffer.getvalue()


def painted(graph: Graph, *names: str) -> Graph:
    """The graph with a map painted on each of its pictures in place of its reward."""
    marks = [{"map": name, "width": TINY, "height": TINY} for name in names]
    graph["reward"] = {
        "class_type": "PXPO_PaintReward",
        "inputs": {
            "image": ["decode", 0],
            "mask_means": "like",
            "marks": {"version": 1, "marks": marks},
        },
    }
    return graph


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
        files = [grey((128 + level * signs).astype(np.uint8)) for level in (127, 50)]
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
