"""Stop means stop: quickly, and with the run as it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from host_prompts import Events, Graph, rounds
from pxpo_dev.server import Server

LIMIT = 1.0  # seconds

LONG: dict[str, dict[str, dict[str, Any]]] = {
    "sampler": {"latent": {"batch_size": 8}, "sampler": {"steps": 300}},
    "update": {
        "latent": {"batch_size": 8},
        "sampler": {"steps": 60},
        "update": {"train_steps": 59, "micro_batch": 1},
    },
}


@pytest.mark.parametrize("node", ["sampler", "update"])
def test_interrupt_ends_soon_and_keeps_the_run(
    server: Server, events: Events, press: Callable[..., Graph], folder: Path, node: str
) -> None:
    server.client.run(press())
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    prompt_id = server.client.queue(press(**LONG[node]))
    events.wait_for_progress(node)
    started = time.monotonic()
    server.client.interrupt()
    result = server.client.wait(prompt_id)
    seconds = time.monotonic() - started
    assert result.status == "interrupted"
    assert seconds < LIMIT
    assert rounds(folder) == ["round_0001"]
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    assert {p: t for p, t in after.items() if p.name != ".lock"} == {
        p: t for p, t in before.items() if p.name != ".lock"
    }

    following = server.client.run(press())
    assert following.ui("update", "pxpo_update")[0]["round"] == 2
