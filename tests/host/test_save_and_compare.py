"""Save PXPO LoRA and Before / After on the real server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from host_prompts import Graph, comparing, pictures, sample_with
from pxpo_dev.client import ExecutionFailed, PromptRejected
from pxpo_dev.server import Server

FAST = {"learning_rate": 0.05}  # one round moves the pictures visibly


def saving(graph: Graph, model: str = "update", **changes: object) -> Graph:
    """Add a Save PXPO LoRA."""
    inputs = {"file_name": "", "format": "automatic", "dtype": "float32", "description": ""}
    graph["file"] = {
        "class_type": "PXPO_SaveLoRA",
        "inputs": {"model": [model, 0], **inputs, **changes},
    }
    return graph


def without_training(graph: Graph) -> Graph:
    """A press that only uses the run's model."""
    for node in ("sampler", "decode", "reward", "update"):
        del graph[node]
    return graph


def files(server: Server, name: str) -> list[str]:
    return sorted(p.name for p in (server.base / "output" / "loras").glob(f"{name}*"))


def test_a_file_for_every_round_that_load_lora_reads(
    server: Server, press: Callable[..., Graph], run_name: str
) -> None:
    graph = saving(press(update=FAST))
    result = server.client.run(graph)
    first = f"{run_name}_r0001.safetensors"
    assert result.ui("file", "text")[0].startswith(f"Saved {first}")
    assert "Press R" in result.ui("file", "text")[0]
    assert files(server, run_name) == [first]

    start = len(server.log_text())
    graph = press()
    graph["loaded"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": ["model", 0], "lora_name": first, "strength_model": 1.0},
    }
    for name, node in {"base": "model", "policy": "run", "loaded_file": "loaded"}.items():
        sample_with(graph, name, [node, 0])
    without_training(graph)
    shown = server.client.run(graph)
    base, policy, loaded = (
        np.stack(pictures(server, shown, name)).astype(int)
        for name in ("base", "policy", "loaded_file")
    )
    assert np.abs(policy - base).max() >= 2, "the LoRA changes nothing"
    assert np.abs(loaded - policy).max() <= 1
    assert "lora key not loaded" not in server.log_text()[start:]

    # a press without training writes nothing, the next round a new file
    graph = saving(press(), "run")
    without_training(graph)
    again = server.client.run(graph)
    assert "nothing was written" in again.ui("file", "text")[0]
    server.client.run(saving(press(update=FAST)))
    assert files(server, run_name) == [first, f"{run_name}_r0002.safetensors"]


def test_nothing_learned_means_no_file(
    server: Server, press: Callable[..., Graph], run_name: str
) -> None:
    graph = saving(press(), "run")
    without_training(graph)
    assert "learned nothing" in server.client.run(graph).ui("file", "text")[0]
    assert files(server, run_name) == []


@pytest.mark.parametrize("name", ["../x", "a/b", "C:x", "con", ".x", "x" * 65])
def test_file_names_with_path_characters(
    server: Server, press: Callable[..., Graph], name: str
) -> None:
    with pytest.raises(PromptRejected, match="cannot be a file name"):
        server.client.queue(without_training(saving(press(), "run", file_name=name)))


@pytest.mark.parametrize(
    ("add", "message"), [(saving, "carries no PXPO LoRA"), (comparing, "model has no LoRA")]
)
def test_a_model_without_lora_cannot_be_saved_or_compared(
    server: Server, press: Callable[..., Graph], add: Callable[..., Graph], message: str
) -> None:
    graph = without_training(add(press(), "model"))
    with pytest.raises(ExecutionFailed, match=message):
        server.client.run(graph)


def test_before_after(server: Server, press: Callable[..., Graph], folder: Path) -> None:
    server.client.run(press(update=FAST))
    graph = comparing(press(update=FAST), "update", "0, 1, 2")
    result = server.client.run(graph)
    assert result.ui("compare", "text")[0].startswith("LoRA off → Round 2: mean change")
    (grid,) = pictures(server, result, "compare")
    assert grid.shape[1] > 4 * 256, "three versions and the difference"

    graph = comparing(press(), "run")
    without_training(graph)
    again = server.client.run(graph)
    assert again.ui("compare", "text") == result.ui("compare", "text")

    graph["compare"]["inputs"]["rounds"] = "0, 9"
    with pytest.raises(ExecutionFailed, match="has no round 9; it has 2 rounds"):
        server.client.run(graph)
    for text in ("0; 3", "one", "3", "-1, 2"):
        graph["compare"]["inputs"]["rounds"] = text
        with pytest.raises(PromptRejected, match="rounds"):
            server.client.queue(graph)


def test_before_after_outside_a_run(
    server: Server, press: Callable[..., Graph], run_name: str
) -> None:
    """Any model with a LoRA; three pictures of an odd size; the base is the same with and without.

    The difference picture is black where nothing changed.
    """
    server.client.run(saving(press(update=FAST)))
    odd = {"latent": {"width": 72, "height": 104, "batch_size": 3}}
    graph = comparing(press(**odd), "loaded")
    graph["loaded"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": ["model", 0], "lora_name": f"{run_name}_r0001.safetensors",
                   "strength_model": 1.0},
    }  # fmt: skip
    graph["heatmap"] = {"class_type": "PreviewImage", "inputs": {"images": ["compare", 1]}}
    without_training(graph)
    result = server.client.run(graph)
    assert result.ui("compare", "text")[0].startswith("LoRA off → LoRA on: mean change")
    heatmaps = pictures(server, result, "heatmap")
    assert [h.shape for h in heatmaps] == [(104, 72, 3)] * 3
    (grid,) = pictures(server, result, "compare")
    assert grid.shape[0] > 3 * 104
    graph["compare"]["inputs"]["rounds"] = "0, 1"
    with pytest.raises(ExecutionFailed, match="training run only"):
        server.client.run(graph)
