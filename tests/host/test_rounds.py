"""One press of Run is one round; the folder on disk is the truth."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from host_prompts import Events, Graph, rounds
from pxpo_dev.client import Result
from pxpo_dev.server import Server

AGAIN = {"run", "sampler", "decode", "reward", "update"}
KEPT = {"model", "positive", "negative", "latent"}


def round_of(result: Result) -> int:
    """The round a press made."""
    return int(result.ui("update", "pxpo_update")[0]["round"])


def test_queued_copies_of_one_prompt_are_rounds_in_a_row(
    server: Server, events: Events, press: Callable[..., Graph], folder: Path
) -> None:
    """Each of them runs the policy, the sampler and the update again, on the round before it."""
    prompt = press()
    server.client.run({"model": prompt["model"], **{k: prompt[k] for k in prompt}})
    assert rounds(folder) == ["round_0001"]

    queued = [server.client.queue(prompt) for _ in range(3)]
    results = [server.client.wait(prompt_id) for prompt_id in queued]
    assert [result.status for result in results] == ["success"] * 3
    assert [round_of(result) for result in results] == [2, 3, 4]
    assert rounds(folder) == ["round_0001", "round_0002", "round_0003", "round_0004"]
    for number, result in enumerate(results, start=2):
        assert set(events.executed(result.prompt_id)) == AGAIN
        assert result.cached == KEPT
        assert f"round {number - 1} finished" in result.ui("run", "text")[0]

    weights = {(folder / name / "lora.safetensors").read_bytes() for name in rounds(folder)}
    assert len(weights) == 4, "every round left other weights"
    means = [result.ui("reward", "pxpo_reward")[0]["per_image"] for result in results]
    assert len({tuple(mean) for mean in means}) == 3, "every round drew other pictures"


def test_a_round_deleted_by_hand_is_made_again(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    for _ in range(2):
        server.client.run(press())
    shutil.rmtree(folder / "round_0002")
    result = server.client.run(press())
    assert round_of(result) == 2
    assert "round 1 finished" in result.ui("run", "text")[0]
    shutil.rmtree(folder)
    assert round_of(server.client.run(press())) == 1
    assert rounds(folder) == ["round_0001"]


def test_a_run_goes_on_after_a_restart_of_the_server(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    assert round_of(server.client.run(press())) == 1
    server.stop()
    server.start()
    result = server.client.run(press())
    assert round_of(result) == 2
    assert rounds(folder) == ["round_0001", "round_0002"]
    assert result.ui("update", "pxpo_update")[0]["images_total"] == 4


def test_another_name_is_another_run(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    for _ in range(2):
        server.client.run(press())
    other = folder.with_name(folder.name + " other")
    result = server.client.run(press(run={"run_name": other.name}))
    assert round_of(result) == 1
    assert (len(rounds(folder)), len(rounds(other))) == (2, 1)
    assert round_of(server.client.run(press())) == 3


def test_what_a_round_leaves_on_disk(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    result = server.client.run(press())
    made = folder / "round_0001"
    names = {path.name for path in made.iterdir()}
    assert {"lora.safetensors", "optimizer.safetensors", "metrics.json", "round.json"} <= names
    metrics = json.loads((made / "metrics.json").read_text(encoding="utf-8"))
    numbers = result.ui("update", "pxpo_update")[0]
    assert metrics["reward_mean"] == pytest.approx(numbers["reward_mean"])
    assert metrics["reward_mean"] == pytest.approx(
        result.ui("reward", "pxpo_reward")[0]["mean"], abs=1e-6
    )
    assert numbers["images"] == 2
    assert str(round_of(result)) in result.ui("update", "text")[0]
