"""A run that starts from a LoRA file, and one that trains on top of an applied LoRA."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from host_prompts import Graph, comparing, rounds
from pxpo_dev.client import ExecutionFailed, PromptRejected
from pxpo_dev.server import Server
from safetensors.torch import load_file, save_file

NEW = {"learning_rate": 1e-7}  # a round that changes next to nothing


def lora_folder(server: Server) -> Path:
    folder = server.base / "models" / "loras"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def style(server: Server, press: Callable[..., Graph], folder: Path) -> str:
    """A LoRA file of rank 4 for the attention layers, in kohya's keys."""
    graph = press(run={"run_name": folder.name + " style"}, update={"learning_rate": 0.05})
    server.client.run(graph)
    graph["save"] = {
        "class_type": "PXPO_SaveLoRA",
        "inputs": {"model": ["update", 0], "file_name": folder.name, "format": "automatic",
                   "dtype": "float32", "description": ""},
    }  # fmt: skip
    server.client.run(graph)
    (made,) = (server.base / "output" / "loras").glob(f"{folder.name}_r0002.safetensors")
    target = lora_folder(server) / f"{folder.name}.safetensors"
    shutil.move(made, target)
    return target.name


def learned(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "round_0001" / "lora.safetensors")


def test_round_1_goes_on_from_the_file(
    server: Server, press: Callable[..., Graph], folder: Path, style: str
) -> None:
    result = server.client.run(press(run={"start_from": style}, update=NEW))
    assert f"it starts from {style}" in result.ui("run", "text")[0]
    source = load_file(folder.with_name(folder.name + " style") / "round_0002" / "lora.safetensors")
    made = learned(folder)
    assert made.keys() == source.keys()
    assert all(torch.allclose(made[key], source[key], atol=1e-6) for key in source)
    # After that the file is not needed any more.
    (lora_folder(server) / style).unlink()
    server.client.run(press(run={"start_from": style}))
    assert len(rounds(folder)) == 2


def test_before_round_1_off_and_on_show_what_it_starts_from(
    server: Server, press: Callable[..., Graph], folder: Path, style: str
) -> None:
    graph = comparing(press(run={"start_from": style}), "run")
    for name in ("sampler", "decode", "reward", "update"):
        del graph[name]
    text = server.client.run(graph).ui("compare", "text")[0]
    assert text.startswith("LoRA off → Start: mean change")
    assert rounds(folder) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"r": 8}, r"has rank 4, and r is 8\. Set r to 4"),
        ({"start_from": "nobody.safetensors"}, "not among your LoRAs"),
        ({"start_from": "../../etc/passwd"}, "not among your LoRAs"),
        ({"start_from": ""}, "not among your LoRAs"),
    ],
)
def test_what_cannot_be_started_from_says_why(
    server: Server,
    press: Callable[..., Graph],
    folder: Path,
    style: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    with pytest.raises((PromptRejected, ExecutionFailed), match=message) as caught:
        server.client.run(press(run={"start_from": style, **changes}))
    if "r" not in changes:
        assert isinstance(caught.value, PromptRejected), "said when Run is pressed"
    assert rounds(folder) == []


def test_files_that_do_not_fit(
    server: Server, press: Callable[..., Graph], folder: Path, style: str
) -> None:
    path = lora_folder(server) / style
    good = load_file(path)
    bad = {
        "another architecture": {f"lora_unet_other_{k}": v for k, v in good.items()},
        "NaN or infinity": {k: v * float("nan") for k, v in good.items()},
    }
    for message, tensors in bad.items():
        save_file(tensors, path)
        with pytest.raises(ExecutionFailed, match=f"cannot start from {style}.*{message}"):
            server.client.run(press(run={"start_from": style}))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ExecutionFailed, match="damaged or incomplete"):
        server.client.run(press(run={"start_from": style}))
    assert rounds(folder) == []


def test_on_top_of_an_applied_lora(
    server: Server, press: Callable[..., Graph], folder: Path, style: str
) -> None:
    """The pictures carry the style, and the run's LoRA does not."""
    plain = server.client.run(press(run={"run_name": folder.name + " plain"}))
    graph = press()
    graph["style"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {"model": ["model", 0], "lora_name": style, "strength_model": 1.0},
    }
    graph["run"]["inputs"]["model"] = ["style", 0]
    styled = server.client.run(graph)

    def reward(result: Any) -> float:
        return float(result.ui("update", "pxpo_update")[0]["reward_mean"])

    assert reward(styled) != reward(plain)
    up = {k: v for k, v in learned(folder).items() if k.endswith("up.weight")}
    applied = load_file(lora_folder(server) / style)
    assert max(float(v.abs().max()) for v in up.values()) < 0.1 * max(
        float(v.abs().max()) for k, v in applied.items() if k.endswith("up.weight")
    ), "only what this round learned, at a learning rate 50 times smaller"
