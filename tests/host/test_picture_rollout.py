"""Learning from pictures that a stock KSampler made."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from host_prompts import Graph, rounds
from pxpo_dev.client import ExecutionFailed
from pxpo_dev.server import Server


def finished_pictures(graph: Graph) -> Graph:
    """The training graph with a KSampler in place of ours."""
    shared = dict(graph["sampler"]["inputs"])
    common = {key: shared[key] for key in ("model", "positive", "negative", "seed", "cfg", "steps")}
    graph["ksampler"] = {
        "class_type": "KSampler",
        "inputs": {
            **common,
            "latent_image": shared["latent_image"],
            "sampler_name": "dpmpp_2m",
            "scheduler": "karras",
            "denoise": 1.0,
        },
    }
    graph["sampler"] = {
        "class_type": "PXPO_PictureRollout",
        "inputs": {**common, "latent": ["ksampler", 0], "scheduler": "karras"},
    }
    return graph


def test_two_rounds_from_a_ksampler(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    """Each round learns; a VAE on the update measures nothing, since there is no path to repeat."""
    graph = finished_pictures(press(update={"vae": ["model", 2], "anchor_region": "everywhere"}))
    first = server.client.run(graph).ui("update", "pxpo_update")[0]
    assert first["grad_norm"] > 0.0
    assert first["effect"] is None
    second = server.client.run(graph).ui("update", "pxpo_update")[0]
    assert second["round"] == 2
    assert second["kl"] > 0.0, "the second round starts away from the base model"
    weights = [(folder / name / "lora.safetensors").read_bytes() for name in rounds(folder)]
    assert len(set(weights)) == 2


def test_an_empty_latent_and_a_model_without_a_run_are_refused(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    graph = finished_pictures(press())
    graph["sampler"]["inputs"]["latent"] = ["latent", 0]
    with pytest.raises(ExecutionFailed, match="This latent is empty"):
        server.client.run(graph)
    graph["sampler"]["inputs"]["latent"] = ["ksampler", 0]
    graph["sampler"]["inputs"]["model"] = ["model", 0]
    with pytest.raises(ExecutionFailed, match="needs the model of PXPO Training Run"):
        server.client.run(graph)
    assert not folder.exists()


def test_finished_pictures_of_our_own_sampler(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    """The other objective learns something else of the same pictures; the change is shown, too."""
    learned = []
    for objective in ("path", "pictures"):
        graph = press(update={"objective": objective, "vae": ["model", 2]})
        graph["run"]["inputs"]["run_name"] = f"{folder.name}_{objective}"
        numbers = server.client.run(graph).ui("update", "pxpo_update")[0]
        assert numbers["grad_norm"] > 0.0
        assert numbers["effect"] is not None
        made = folder.with_name(f"{folder.name}_{objective}") / "round_0001"
        assert json.loads((made / "settings.json").read_text("utf-8"))["objective"] == objective
        learned.append((made / "lora.safetensors").read_bytes())
    assert learned[0] != learned[1]


def test_judged_predictions_need_the_path(server: Server, press: Callable[..., Graph]) -> None:
    graph = press(update={"objective": "pictures", "prediction_reward": ["reward", 0]})
    with pytest.raises(ExecutionFailed, match="set objective to automatic or path"):
        server.client.run(graph)
