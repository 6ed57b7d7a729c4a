"""Whole cells, very short ones, on the real Toy Faces."""

from __future__ import annotations

import math
from typing import Any

import pytest

from benchmarks.learn.cells import GAINS, Cell, Protocol
from benchmarks.learn.methods import METHODS
from benchmarks.learn.trial import Bench

PLAN = Protocol(budget=8, evaluations=(4, 8), held_out=2)


@pytest.fixture(scope="module")
def bench(comfyui: object) -> Bench:
    del comfyui
    from benchmarks.learn.judge import Judge
    from benchmarks.learn.reference import Reference
    from benchmarks.learn.tasks import all_tasks
    from benchmarks.learn.world import Settings, ToyWorld
    from demo.toy_faces.segmenter import load_segmenter

    judge = Judge.load()
    # Collapse is for long runs: three sampling steps do not make faces that a judge accepts.
    world = ToyWorld(Settings(steps=3), fast=False, threads=2)
    return Bench(world, judge, Reference.load(), all_tasks(load_segmenter(), judge))


def run(bench: Bench, task: str, method: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("benchmarks.learn.trial.FEW_FACES", -1.0)
    monkeypatch.setitem(GAINS, task, (math.inf,))  # nor do a few pictures win a race by chance
    return bench.run(Cell(task, method, 3e-3, 4, 1000), PLAN)


@pytest.mark.parametrize(
    ("task", "method"),
    [
        ("blue", "ddpo"),
        ("blue", "path"),
        ("hair", "pxpo"),
        ("region", "anchor_unmarked_0.1"),
        ("alignment", "path"),
        ("single_image", "four_updates"),
        ("single_image_like", "radius_grows"),
    ],
)
def test_a_cell_trains_and_is_measured(
    bench: Bench, task: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = run(bench, task, method, monkeypatch)
    assert [e["images"] for e in record["evaluations"]] == [0, 4, 8]
    assert record["evaluations"][0]["gain"] == 0.0
    assert record["evaluations"][-1]["detail"] != record["evaluations"][0]["detail"]
    assert [r["grad_norm"] > 0.0 for r in record["rounds"]] == [True, True]
    assert (record["evaluations"][-1]["frechet"] > 0.0) != task.startswith("single")
    assert record["stopped"] == "budget"


def test_cells_repeat_exactly(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (run(bench, "blue", "flip_25", monkeypatch) for _ in range(2))
    for name in ("gain", "frechet", "detail"):
        ours, theirs = ([e[name] for e in r["evaluations"]] for r in (first, second))
        assert ours == theirs
    assert first["rounds"] == second["rounds"]


def test_every_task_has_its_gains(bench: Bench) -> None:
    assert set(bench._tasks) == set(GAINS)
    assert {"ddpo", "ddpo_improved", "pxpo", "default"} <= set(METHODS)
