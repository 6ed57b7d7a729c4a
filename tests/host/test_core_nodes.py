"""What we put out works in ComfyUI's own nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from host_prompts import Graph, pictures, sample_with
from pxpo_dev.server import Server

FAST = {"learning_rate": 0.05}  # one round moves the pictures visibly


def test_model_and_lora_in_every_kind_of_node(
    server: Server, press: Callable[..., Graph], run_name: str
) -> None:
    """KSampler, merge, checkpoint save, Load LoRA Model, Save LoRA Weights and the loss plot."""
    graph = press(update=FAST)
    graph["save"] = {
        "class_type": "SaveLoRA",
        "inputs": {"lora": ["update", 1], "prefix": f"loras/{run_name}"},
    }
    graph["plot"] = {
        "class_type": "LossGraphNode",
        "inputs": {"loss": ["update", 2], "filename_prefix": run_name},
    }
    graph["loaded"] = {
        "class_type": "LoraModelLoader",
        "inputs": {
            "model": ["model", 0], "lora": ["update", 1], "strength_model": 1.0,
            "bypass": False,  # newer hosts ask for it
        },
    }  # fmt: skip
    graph["merge"] = {
        "class_type": "ModelMergeSimple",
        "inputs": {"model1": ["update", 0], "model2": ["model", 0], "ratio": 0.5},
    }
    graph["checkpoint"] = {
        "class_type": "CheckpointSave",
        "inputs": {
            "model": ["update", 0],
            "clip": ["model", 1],
            "vae": ["model", 2],
            "filename_prefix": f"checkpoints/{run_name}",
        },
    }
    models = {"base": "model", "policy": "update", "by_lora": "loaded", "merged": "merge"}
    for name, node in models.items():
        sample_with(graph, name, [node, 0])
    result = server.client.run(graph)

    shown = {name: np.stack(pictures(server, result, name)).astype(int) for name in models}
    moved = np.abs(shown["policy"] - shown["base"]).max()
    assert moved >= 2, "the LoRA changes nothing"
    assert np.abs(shown["by_lora"] - shown["policy"]).max() <= 1
    assert np.abs(shown["merged"] - shown["base"]).max() >= 1
    assert result.ui("plot", "images")
    files = list((server.base / "output" / "loras").glob(f"{run_name}*.safetensors"))
    assert len(files) == 1
    assert list((server.base / "output" / "checkpoints").glob(f"{run_name}*.safetensors"))

    # The saved file in core's LoraLoader, in one branch, while our policy is loaded in another.
    start = len(server.log_text())
    again = press(update=FAST)
    del again["update"], again["reward"], again["decode"], again["sampler"]["inputs"]
    del again["sampler"]
    again["sampler"] = graph["sampler"]
    again["file"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {
            "model": ["model", 0],
            "lora_name": files[0].name,
            "strength_model": 1.0,
        },
    }
    sample_with(again, "ours", ["run", 0])
    sample_with(again, "theirs", ["file", 0])
    sample_with(again, "base", ["model", 0])
    del again["sampler"]
    second = server.client.run(again)
    ours = np.stack(pictures(server, second, "ours")).astype(int)
    theirs = np.stack(pictures(server, second, "theirs")).astype(int)
    base = np.stack(pictures(server, second, "base")).astype(int)
    assert np.array_equal(ours, shown["policy"]), "the run's head is what Update LoRA gave"
    assert np.abs(theirs - ours).max() <= 1
    assert np.array_equal(base, shown["base"])
    assert "lora key not loaded" not in server.log_text()[start:]


def test_base_model_is_untouched_by_a_round_in_the_same_prompt(
    server: Server, press: Callable[..., Graph]
) -> None:
    """The same picture, to the bit, from the base model before, during and after training."""
    alone = press()
    for name in ("run", "sampler", "decode", "reward", "update"):
        alone.pop(name)
    alone["sampler"] = press()["sampler"]
    sample_with(alone, "base", ["model", 0])
    del alone["sampler"]
    before = pictures(server, server.client.run(alone), "base")

    beside = press(update=FAST)
    sample_with(beside, "base", ["model", 0])
    during = pictures(server, server.client.run(beside), "base")

    server.client.post("/history", {"clear": True})
    alone["base_sampler"]["inputs"]["seed"] += 1  # not from the cache
    server.client.run(alone)
    alone["base_sampler"]["inputs"]["seed"] -= 1
    after = pictures(server, server.client.run(alone), "base")
    assert np.array_equal(np.stack(before), np.stack(during))
    assert np.array_equal(np.stack(before), np.stack(after))


@pytest.mark.parametrize("rule", ["less", "more"])
def test_the_reward_moves_the_way_it_is_told(
    server: Server, press: Callable[..., Graph], rule: str
) -> None:
    """Five quick rounds raise the policy's mean reward on fixed seeds, in both directions."""
    reward = {"direction": rule, "channel": "luminance"}
    prompt = press(
        reward=reward,
        sampler={"steps": 8},
        update={"learning_rate": 0.003, "train_steps": 8},
        latent={"batch_size": 8},
    )
    check = {key: prompt[key] for key in ("model", "positive", "negative", "latent", "sampler")}
    sample_with(check, "base", ["model", 0])
    del check["sampler"]
    before = np.stack(pictures(server, server.client.run(check), "base")).mean()
    for _ in range(5):
        server.client.run(prompt)
    check["run"] = prompt["run"]
    check["base_sampler"]["inputs"]["model"] = ["run", 0]
    after = np.stack(pictures(server, server.client.run(check), "base")).mean()
    assert (after < before) if rule == "less" else (after > before), (before, after)


def test_saved_lora_is_plain_safetensors(
    server: Server, press: Callable[..., Graph], folder: Path, run_name: str
) -> None:
    from safetensors.torch import load_file

    graph = press()
    graph["save"] = {
        "class_type": "SaveLoRA",
        "inputs": {"lora": ["update", 1], "prefix": f"loras/{run_name}"},
    }
    server.client.run(graph)
    file = next((server.base / "output" / "loras").glob(f"{run_name}*.safetensors"))
    tensors = load_file(file)
    kinds = {name.rpartition(".lora_")[2] or name for name in tensors}
    assert any("up.weight" in kind for kind in kinds)
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
