"""Credit by step through the server: guessed, from judged predictions, or switched off."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from host_prompts import Graph, rounds
from pxpo_dev.client import ExecutionFailed
from pxpo_dev.server import Server

Press = Callable[..., Graph]


def judged(graph: Graph) -> Graph:
    """The same reward for the decoded predictions."""
    graph = copy.deepcopy(graph)
    graph["predicted"] = {
        "class_type": "VAEDecode",
        "inputs": {"samples": ["sampler", 2], "vae": ["model", 2]},
    }
    graph["judge"] = copy.deepcopy(graph["reward"])
    graph["judge"]["inputs"]["image"] = ["predicted", 0]
    graph["update"]["inputs"]["prediction_reward"] = ["judge", 0]
    return graph


def named(graph: Graph, name: str) -> Graph:
    graph = copy.deepcopy(graph)
    graph["run"]["inputs"]["run_name"] = name
    return graph


def update(server: Server, graph: Graph) -> dict[str, Any]:
    """The numbers of a press that made a round."""
    numbers = dict(server.client.run(graph).ui("update", "pxpo_update")[0])
    assert numbers["trained"]
    assert numbers["grad_norm"] > 0.0
    return numbers


def inpainted(graph: Graph) -> Graph:
    """Only the right half of two painted pictures is sampled."""
    graph = copy.deepcopy(graph)
    graph["plain"] = node("EmptyImage", width=64, height=64, batch_size=2, color=0x336699)
    graph["encode"] = node("VAEEncode", pixels=["plain", 0], vae=["model", 2])
    graph["black"] = node("SolidMask", value=0.0, width=64, height=64)
    graph["white"] = node("SolidMask", value=1.0, width=32, height=64)
    graph["half"] = node(
        "MaskComposite", destination=["black", 0], source=["white", 0], x=32, y=0, operation="add"
    )
    graph["masked"] = node("SetLatentNoiseMask", samples=["encode", 0], mask=["half", 0])
    graph["sampler"]["inputs"]["latent_image"] = ["masked", 0]
    return graph


def node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


@pytest.mark.parametrize(("steps", "moments"), [(4, 3), (12, 8)])
def test_two_rounds_from_judged_predictions(
    server: Server, press: Press, folder: Path, steps: int, moments: int
) -> None:
    graph = judged(press(sampler={"steps": steps}))
    result = server.client.run(graph)
    assert result.ui("judge", "pxpo_reward")[0]["images"] == moments * 2
    assert result.ui("update", "pxpo_update")[0]["round"] == 1
    assert update(server, graph)["round"] == 2
    weights = {(folder / name / "lora.safetensors").read_bytes() for name in rounds(folder)}
    assert len(weights) == 2


def test_the_ways_to_credit_steps_differ_and_off_listens_to_none(
    server: Server, press: Press, folder: Path
) -> None:
    """Off, predictions that are judged all the same change nothing."""
    plain, off = press(), press(update={"stepwise": False, "objective": "path"})
    found = {
        name: update(server, named(graph, f"{folder.name}_{name}"))["grad_norm"]
        for name, graph in {
            "fitted": plain, "judged": judged(plain), "off": off, "both": judged(off),
        }.items()
    }  # fmt: skip
    assert len({found["fitted"], found["judged"], found["off"]}) == 3
    assert found["both"] == found["off"]
    written = {
        name: json.loads(
            (folder.with_name(f"{folder.name}_{name}") / "round_0001" / "settings.json").read_text()
        )["stepwise"]
        for name in ("fitted", "off")
    }
    assert written == {"fitted": True, "off": False}


@pytest.mark.parametrize(("width", "height", "batch"), [(72, 56, 1), (56, 104, 7)])
def test_odd_sizes_and_batches(
    server: Server, press: Press, folder: Path, width: int, height: int, batch: int
) -> None:
    """Latents of 9x7 and 7x13."""
    graph = press(latent={"width": width, "height": height, "batch_size": batch})
    assert update(server, graph)["round"] == 1
    assert update(server, judged(graph))["round"] == 2
    assert rounds(folder) == ["round_0001", "round_0002"]


def test_several_optimizer_steps(server: Server, press: Press) -> None:
    graph = press(update={"steps_per_rollout": 2})
    assert update(server, graph)["round"] == 1
    assert update(server, judged(graph))["round"] == 2


def test_inpainting(server: Server, press: Press) -> None:
    graph = inpainted(press())
    assert update(server, graph)["round"] == 1
    assert update(server, judged(graph))["round"] == 2


def test_rewards_that_cannot_be_the_predictions(server: Server, press: Press, folder: Path) -> None:
    def refused(graph: Graph, words: str) -> None:
        with pytest.raises(ExecutionFailed, match=words) as caught:
            server.client.run(graph)
        assert "Traceback" not in caught.value.result.error

    wrong = press(update={"prediction_reward": ["reward", 0]})
    refused(wrong, "is for 2 pictures, but the sampler's predictions are 6")

    small = judged(press())
    small["scaled"] = node(
        "ImageScale", image=["predicted", 0], upscale_method="area", width=32, height=32,
        crop="disabled",
    )  # fmt: skip
    small["judge"]["inputs"]["image"] = ["scaled", 0]
    refused(small, "is for pictures of 32x32, the reward for 64x64")

    mask = node("SolidMask", value=1.0, width=64, height=64)
    painted = judged(press())
    painted["mask"] = mask
    painted["judge"] = node(
        "PXPO_PaintReward", image=["predicted", 0], mask_means="like", mask=["mask", 0]
    )
    refused(painted, "must come from an automatic rule, not from painted marks")

    painted = judged(press())
    painted["mask"] = mask
    painted["reward"] = node(
        "PXPO_PaintReward", image=["decode", 0], mask_means="like", mask=["mask", 0]
    )
    refused(painted, "The pictures' reward is painted")
    assert rounds(folder) == []


def test_finished_pictures_have_no_predictions(server: Server, press: Press, folder: Path) -> None:
    graph = press(update={"prediction_reward": ["reward", 0]})
    sampled = graph["sampler"]["inputs"]
    shared = ("model", "positive", "negative", "seed", "cfg", "steps", "scheduler")
    graph["pictures"] = node("EmptyImage", width=64, height=64, batch_size=2, color=0x336699)
    graph["encode"] = node("VAEEncode", pixels=["pictures", 0], vae=["model", 2])
    graph["sampler"] = node(
        "PXPO_PictureRollout", latent=["encode", 0], **{name: sampled[name] for name in shared}
    )
    with pytest.raises(ExecutionFailed, match="Finished pictures have no predictions"):
        server.client.run(graph)
    assert rounds(folder) == []
