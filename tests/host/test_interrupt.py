"""Stop means stop: quickly, and with the run as it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from host_prompts import Events, Graph, rounds
from pxpo_dev.server import Server

LIMIT = 3.0  # seconds; below 1 on an idle machine, but tests run side by side

LONG: dict[str, dict[str, dict[str, Any]]] = {
    "sampler": {"latent": {"batch_size": 8}, "sampler": {"steps": 300}},
    "update": {
        "latent": {"batch_size": 8},
        "sampler": {"steps": 60},
        "update": {"train_steps": 59, "micro_batch": 1},
    },
}

SEVERAL = {"latent": {"batch_size": 4}, "sampler": {"steps": 40}}
SEVERAL_STEPS = {"train_steps": 2, "steps_per_rollout": 64, "micro_batch": 4}


@pytest.mark.parametrize("node", ["sampler", "update"])
def test_interrupt_ends_soon_and_keeps_the_run(
    server: Server, events: Events, press: Callable[..., Graph], folder: Path, node: str
) -> None:
    server.client.run(press())
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}

    prompt_id = server.client.queue(press(**LONG[node]))
    events.wait_for_progress(prompt_id, node)
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


@pytest.mark.parametrize("keep", [True, False])
def test_an_interrupt_keeps_finished_optimizer_steps_if_asked(
    server: Server, events: Events, press: Callable[..., Graph], folder: Path, keep: bool
) -> None:
    server.client.run(press())
    changes = {**SEVERAL, "update": {**SEVERAL_STEPS, "keep_partial": keep}}
    prompt_id = server.client.queue(press(**changes))
    # Model calls, two for each optimizer step.
    events.wait_for_progress(prompt_id, "update", done=20)
    started = time.monotonic()
    server.client.interrupt()
    result = server.client.wait(prompt_id)
    # Between two optimizer steps the host prepares the model, and what is kept is written.
    assert time.monotonic() - started < 3 * LIMIT
    assert result.status == "interrupted", "the queue stops, whether a round was kept or not"
    assert rounds(folder) == ["round_0001", "round_0002"][: 2 if keep else 1]
    if keep:
        metrics = json.loads((folder / "round_0002" / "metrics.json").read_text(encoding="utf-8"))
        assert metrics["partial"] is True
        assert 1 <= metrics["optimizer_steps"] < SEVERAL_STEPS["steps_per_rollout"]
        shown = json.loads((folder / "overview.json").read_text(encoding="utf-8"))
        assert [entry.get("partial", False) for entry in shown["history"]] == [False, True]
    following = server.client.run(press())
    assert following.ui("update", "pxpo_update")[0]["round"] == (3 if keep else 2)
