"""Bad input: a clear message, before any work, and nothing left on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from host_prompts import Graph, rounds
from pxpo_dev.client import ExecutionFailed, PromptRejected
from pxpo_dev.server import Server

NAMES = [
    "../outside",
    "a/b",
    "a\\b",
    "/tmp/x",
    "",
    " ",
    "con",
    "name.",
    "x" * 65,
    "a\nb",
    ".hidden",
]


@pytest.mark.parametrize("name", NAMES)
def test_run_names_with_path_characters(
    server: Server, press: Callable[..., Graph], name: str
) -> None:
    before = sorted(server.base.rglob("*"))
    with pytest.raises(PromptRejected, match="cannot be a run name"):
        server.client.queue(press(run={"run_name": name}))
    assert sorted(server.base.rglob("*")) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampler": {"steps": 1}}, "smaller than min"),
        ({"sampler": {"eta": 1.5}}, "bigger than max"),
        ({"reward": {"rule": "colour distance", "colour": "blueish"}}, "#RRGGBB"),
        ({"reward": {"rule": "mask"}}, "no mask is connected"),
        ({"run": {"r": 0}}, "rank"),
        ({"run": {"lora_alpha": -1.0}}, "lora_alpha"),
        ({"update": {"train_steps": -1}}, "smaller than min"),
        ({"update": {"learning_rate": 0.0}}, "smaller than min"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused_when_run_is_pressed(
    server: Server, press: Callable[..., Graph], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptRejected, match=message):
        server.client.queue(press(**changes))


def fails(server: Server, graph: Graph, before: str) -> str:
    """The message of a prompt that must fail without having run the node `before`."""
    with pytest.raises(ExecutionFailed) as caught:
        server.client.run(graph)
    assert before not in caught.value.result.executed
    assert "Traceback" not in caught.value.result.error
    return caught.value.result.error


def test_reward_of_other_pictures(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    graph = press()
    graph["other"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 3, "color": 0x336699},
    }
    graph["reward"]["inputs"]["image"] = ["other", 0]
    message = fails(server, graph, "update")
    assert "3 pictures" in message
    assert "has 2" in message
    assert rounds(folder) == []


def test_eta_0_given_to_training(server: Server, press: Callable[..., Graph], folder: Path) -> None:
    message = fails(server, press(sampler={"eta": 0.0}), "update")
    assert "eta" in message
    assert rounds(folder) == []


def test_rollout_of_no_run(server: Server, press: Callable[..., Graph]) -> None:
    message = fails(server, press(sampler={"model": ["model", 0]}), "update")
    assert "PXPO Training Run" in message


def test_sigmas_with_one_step(server: Server, press: Callable[..., Graph], folder: Path) -> None:
    graph = press()
    graph["one"] = {
        "class_type": "BasicScheduler",
        "inputs": {"model": ["model", 0], "scheduler": "karras", "steps": 1, "denoise": 1.0},
    }
    graph["sampler"]["inputs"]["sigmas"] = ["one", 0]
    assert "at least 2 steps" in fails(server, graph, "sampler")
    assert rounds(folder) == []


def test_a_schedule_that_another_sampler_finishes(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    """Its latents still hold noise, so the path is learned from and pictures are refused."""
    graph = press(update={"objective": "pictures"})
    graph["all"] = {
        "class_type": "BasicScheduler",
        "inputs": {"model": ["model", 0], "scheduler": "karras", "steps": 6, "denoise": 1.0},
    }
    graph["split"] = {"class_type": "SplitSigmas", "inputs": {"sigmas": ["all", 0], "step": 4}}
    graph["sampler"]["inputs"]["sigmas"] = ["split", 0]
    assert "schedule ends at" in fails(server, graph, "update")
    assert rounds(folder) == []
    graph["update"]["inputs"]["objective"] = "automatic"
    server.client.run(graph)
    made = json.loads((folder / "round_0001" / "settings.json").read_text(encoding="utf-8"))
    assert made["objective"] == "path"


def test_nan_in_a_mask(server: Server, press: Callable[..., Graph], folder: Path) -> None:
    graph = press()
    graph["mask"] = {"class_type": "PXPOTest_NaNMask", "inputs": {"size": 64}}
    graph["reward"]["inputs"]["mask"] = ["mask", 0]
    message = fails(server, graph, "reward")
    assert "mask" in message
    assert "3" in message, "says how many values are bad"
    assert rounds(folder) == []


def test_mask_of_the_wrong_batch(server: Server, press: Callable[..., Graph]) -> None:
    graph = press(latent={"batch_size": 3})
    for name, value in (("white", 1.0), ("black", 0.0)):
        graph[name] = {
            "class_type": "SolidMask",
            "inputs": {"value": value, "width": 64, "height": 64},
        }
        graph[f"{name}_image"] = {"class_type": "MaskToImage", "inputs": {"mask": [name, 0]}}
    graph["two"] = {
        "class_type": "ImageBatch",
        "inputs": {"image1": ["white_image", 0], "image2": ["black_image", 0]},
    }
    graph["mask"] = {
        "class_type": "ImageToMask",
        "inputs": {"image": ["two", 0], "channel": "red"},
    }
    graph["reward"]["inputs"]["mask"] = ["mask", 0]
    message = fails(server, graph, "reward")
    assert "2" in message
    assert "3" in message


def test_an_empty_mask_makes_no_round_and_says_so(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    graph = press()
    graph["mask"] = {
        "class_type": "SolidMask",
        "inputs": {"value": 0.0, "width": 64, "height": 64},
    }
    graph["reward"]["inputs"]["mask"] = ["mask", 0]
    result = server.client.run(graph)
    assert "No round was made" in result.ui("update", "text")[0]
    assert rounds(folder) == []
    # Nor does it stand in the way of the next press.
    graph["mask"]["inputs"]["value"] = 1.0
    assert server.client.run(graph).ui("update", "pxpo_update")[0]["round"] == 1


def damage_truncate(made: Path) -> None:
    file = made / "lora.safetensors"
    os.truncate(file, file.stat().st_size // 2)


def damage_missing(made: Path) -> None:
    (made / "optimizer.safetensors").unlink()


def damage_bytes(made: Path) -> None:
    file = made / "lora.safetensors"
    data = bytearray(file.read_bytes())
    data[-40:] = b"\xff" * 40
    file.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [damage_truncate, damage_missing, damage_bytes])
def test_a_round_damaged_by_hand(
    server: Server,
    press: Callable[..., Graph],
    folder: Path,
    damage: Callable[[Path], None],
) -> None:
    for _ in range(2):
        server.client.run(press())
    damage(folder / "round_0002")
    if damage is damage_bytes:  # seen by reading the weights only
        message = fails(server, press(), "sampler")
    else:
        with pytest.raises(PromptRejected) as refused:
            server.client.queue(press())
        message = str(refused.value)
    assert "round_0002" in message
    assert rounds(folder) == ["round_0001", "round_0002"], "nothing is deleted"
    (folder / "round_0002").rename(folder.parent / f"{folder.name}_moved_away")
    assert server.client.run(press()).ui("update", "pxpo_update")[0]["round"] == 2


def test_other_lora_settings_for_a_run(server: Server, press: Callable[..., Graph]) -> None:
    server.client.run(press())
    with pytest.raises(PromptRejected, match=r"was made with rank 4, and r is 8 now: set r to 4"):
        server.client.queue(press(run={"r": 8}))


def test_run_of_another_model(server: Server, press: Callable[..., Graph], folder: Path) -> None:
    """A checkpoint with other weights is not the model the run was started with."""
    server.client.run(press())
    manifest = folder / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    base = json.loads(text)["base"]
    manifest.write_text(text.replace(base, base[::-1]), encoding="utf-8")
    assert "another model" in fails(server, press(), "sampler")
    assert rounds(folder) == ["round_0001"]


@pytest.mark.parametrize(
    ("node", "field"),
    [
        ("run", "target_modules"),
        ("sampler", "scheduler"),
        ("reward", "rule"),
        ("reward", "channel"),
        ("reward", "direction"),
        ("reward", "normalise"),
        ("update", "step_weighting"),
        ("update", "preset"),
    ],
)
def test_a_choice_that_does_not_exist(
    server: Server, press: Callable[..., Graph], folder: Path, node: str, field: str
) -> None:
    """ComfyUI 0.3.75 does not check the choices of V3 nodes, so ours must."""
    try:
        message = fails(server, press(**{node: {field: "ultraviolet"}}), "update")
    except PromptRejected as error:
        message = str(error)
    assert "ultraviolet" in message
    assert field.split("_")[-1] in message
    assert rounds(folder) == []
