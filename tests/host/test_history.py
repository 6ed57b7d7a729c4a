"""Resume, undo and copies on the real server: the same bits as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from host_prompts import Graph, rounds
from pxpo_dev.client import ExecutionFailed, PromptRejected, Result
from pxpo_dev.server import Server
from safetensors.torch import load_file

TENSORS = ("lora.safetensors", "optimizer.safetensors", "memory.safetensors")


def command(run: str, round_: int, token: str) -> Graph:
    """The prompt that goes back."""
    inputs = {"run_name": run, "round": round_, "token": token}
    return {"back": {"class_type": "PXPO_GoBack", "inputs": inputs}}


def same(one: Path, other: Path) -> None:
    """Two rounds hold the same bits, except for what names their run."""
    for name in TENSORS:
        a, b = load_file(one / name), load_file(other / name)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[key], b[key]) for key in a), f"{one} and {other}: {name}"
    assert (one / "state.json").read_bytes() == (other / "state.json").read_bytes()


def train(server: Server, press: Callable[..., Graph], run: str, count: int) -> Result:
    for _ in range(count):
        result = server.client.run(press(run={"run_name": run}))
    return result


def test_resuming_after_restarts_equals_never_stopping(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    """The LoRA, Adam's state and the running reward, bit for bit; every restart and interrupt."""
    through, stopped = folder.name + " a", folder.name + " b"
    train(server, press, through, 4)
    train(server, press, stopped, 1)
    server.stop()
    server.start()
    train(server, press, stopped, 2)
    server.kill()
    assert server.process is not None
    server.process.wait()
    server.stop()
    server.start()
    train(server, press, stopped, 1)
    for name in rounds(folder.with_name(through)):
        same(folder.with_name(through) / name, folder.with_name(stopped) / name)
    assert len(rounds(folder.with_name(stopped))) == 4


def test_undo_and_train_again_equals_a_fresh_run(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    fresh = folder.name + " fresh"
    train(server, press, fresh, 4)
    # Rounds 4 and 5 of the other run see another reward.
    train(server, press, folder.name, 3)
    for _ in range(2):
        server.client.run(press(reward={"direction": "more"}, update={"auto_stop": False}))
    other = load_file(folder / "round_0004" / "lora.safetensors")
    result = server.client.run(command(folder.name, 3, "token-0001"))
    assert "went back from round 5 to round 3" in result.ui("back", "text")[0]
    result = train(server, press, folder.name, 1)
    assert result.ui("update", "pxpo_update")[0]["round"] == 4
    assert "round 3 finished" in result.ui("run", "text")[0]
    for name in rounds(folder):
        same(folder / name, folder.with_name(fresh) / name)
    assert len(rounds(folder)) == 4
    kept = load_file(folder / "branches" / "0001" / "round_0004" / "lora.safetensors")
    assert all(torch.equal(kept[key], other[key]) for key in other)
    shown = result.ui("run", "pxpo_run")[0]
    assert [entry["round"] for entry in shown["history"]] == [1, 2, 3]
    assert [entry["round"] for entry in shown["branches"][0]["history"]] == [4, 5]


def test_going_back_keeps_its_place_in_the_queue_and_happens_once(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    back = command(folder.name, 1, "token-0002")
    prompts = [press(), press(), back, press(), back, press()]
    queued = [server.client.queue(prompt) for prompt in prompts]
    results = [server.client.wait(prompt_id) for prompt_id in queued]
    assert [result.status for result in results] == ["success"] * len(prompts)
    made = [r.ui("update", "pxpo_update")[0]["round"] for r in results if "update" in r.outputs]
    assert made == [1, 2, 2, 3]
    assert rounds(folder) == ["round_0001", "round_0002", "round_0003"]
    assert rounds(folder / "branches" / "0001") == ["round_0002"]


def test_pictures_from_before_going_back_are_refused(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    """The sampler's and the update's halves of a press, with a going back between them."""
    train(server, press, folder.name, 2)
    graph = press()
    graph["back"] = command(folder.name, 1, "token-0003")["back"]
    results = server.client.run(graph).outputs
    # Whatever order the host chose: the run is whole, and the next press goes on from it.
    assert "back" in results
    number = len(rounds(folder))
    result = train(server, press, folder.name, 1)
    assert result.ui("update", "pxpo_update")[0]["round"] == number + 1


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"token": ""}, "carried out once"),
        ({"token": "../../x/y/z"}, "carried out once"),
        ({"run_name": "../outside"}, "cannot be a run name"),
        ({"round": -1}, "smaller than min"),
        ({"round": 7}, "has no round 7"),
        ({"run_name": "nobody"}, "no run named nobody"),
    ],
)
def test_commands_that_cannot_be_carried_out(
    server: Server,
    press: Callable[..., Graph],
    folder: Path,
    inputs: dict[str, Any],
    message: str,
) -> None:
    train(server, press, folder.name, 1)
    graph = command(folder.name, 0, "token-0004")
    graph["back"]["inputs"].update(inputs)
    with pytest.raises((PromptRejected, ExecutionFailed), match=message):
        server.client.run(graph)
    assert rounds(folder) == ["round_0001"]


def test_a_copy_trains_on_by_itself(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    train(server, press, folder.name, 2)
    name = folder.name + " copy"
    inputs = {"run_name": folder.name, "new_name": name, "round": 0, "branch": 0}
    graph: Graph = {"copy": {"class_type": "PXPO_CopyRun", "inputs": inputs}}
    assert "copy of run" in server.client.run(graph).ui("copy", "text")[0]
    train(server, press, name, 1)
    train(server, press, folder.name, 1)
    same(folder / "round_0003", folder.with_name(name) / "round_0003")


def test_two_workflows_on_one_run_never_mix(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    """Two prompts queued on one run with other settings are two rounds, one after the other."""
    one, two = press(), press(reward={"direction": "more"}, sampler={"seed": 5})
    queued = [server.client.queue(prompt) for prompt in (one, two, one, two)]
    results = [server.client.wait(prompt_id) for prompt_id in queued]
    assert [r.ui("update", "pxpo_update")[0]["round"] for r in results] == [1, 2, 3, 4]
    assert len(rounds(folder)) == 4
