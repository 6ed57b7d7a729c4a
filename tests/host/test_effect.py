"""What a round changed, measured by PXPO Update LoRA when a VAE is connected."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_prompts import Graph, pictures, rounds
from PIL import Image
from pxpo_dev.server import Server

CHANGES = {"change_picture", "change_inside", "change_outside"}


def with_vae(graph: Graph, vae: list[Any]) -> Graph:
    """The press with the update's VAE connected and a mask on the upper left corner."""
    graph["update"]["inputs"].update({"vae": vae, "learning_rate": 0.05})
    graph["zeros"] = {
        "class_type": "SolidMask", "inputs": {"value": 0.0, "width": 64, "height": 64}
    }  # fmt: skip
    graph["corner"] = {
        "class_type": "SolidMask", "inputs": {"value": 1.0, "width": 16, "height": 16}
    }  # fmt: skip
    graph["mask"] = {
        "class_type": "MaskComposite",
        "inputs": {
            "destination": ["zeros", 0],
            "source": ["corner", 0],
            "x": 0,
            "y": 0,
            "operation": "add",
        },
    }
    graph["reward"]["inputs"]["mask"] = ["mask", 0]
    return graph


def metrics(folder: Path, number: int = 1) -> dict[str, Any]:
    return dict(json.loads((folder / f"round_{number:04d}" / "metrics.json").read_text("utf-8")))


def test_the_same_noise_before_and_after(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    """The pictures are those that the sampler gives for that noise without and with the LoRA."""
    graph = with_vae(press(), ["model", 2])
    graph["show"] = {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}}
    result = server.client.run(graph)
    (update,) = result.ui("update", "pxpo_update")
    effect = update["effect"]
    row = effect["picture"] - 1
    found = [
        np.asarray(Image.open(io.BytesIO(server.client.picture(effect[side]))), np.float64)
        for side in ("before", "after")
    ]
    loras = server.base / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "round_0001" / "lora.safetensors", loras / f"{folder.name}.safetensors")
    check = press()
    check["lora"] = {
        "class_type": "LoraLoaderModelOnly",
        "inputs": {
            "model": ["model", 0],
            "strength_model": 1.0,
            "lora_name": f"{folder.name}.safetensors",
        },
    }
    check["sampler"]["inputs"]["model"] = ["lora", 0]  # round 0 draws the same noise
    check["show"] = graph["show"]
    needed = {k: v for k, v in check.items() if k not in ("reward", "update", "run")}
    again = pictures(server, server.client.run(needed), "show")[row].astype(np.float64)
    assert np.abs(found[0] - pictures(server, result, "show")[row]).mean() < 0.5
    assert np.abs(found[1] - again).mean() < 0.5
    assert np.abs(found[1] - found[0]).mean() > 2.0
    numbers = metrics(folder)
    assert numbers["change_picture"] == row + 1
    by_hand = np.abs(found[1] - found[0]).mean(-1) / 255.0
    assert numbers["change_inside"] == pytest.approx(by_hand[:16, :16].mean(), abs=2e-3)
    by_hand[:32, :32] = np.nan
    assert numbers["change_outside"] == pytest.approx(np.nanmean(by_hand), abs=2e-3)
    assert update["history"][0]["change_inside"] == numbers["change_inside"]
    assert "with the same noise changed by" in result.ui("update", "text")[0]

    # A round without it leaves a gap, and the same weights as if nothing had been measured.
    del graph["update"]["inputs"]["vae"]
    (update,) = server.client.run(graph).ui("update", "pxpo_update")
    assert update["effect"] is None
    assert not CHANGES & set(metrics(folder, 2))
    assert [CHANGES & set(entry) for entry in update["history"]] == [
        {"change_inside", "change_outside"}, set()
    ]  # fmt: skip


@pytest.mark.parametrize("cancels", [False, True], ids=["fails", "is cancelled"])
def test_a_measurement_that_ends_early_keeps_the_round(
    server: Server, press: Callable[..., Graph], folder: Path, cancels: bool
) -> None:
    graph = with_vae(press(), ["bad", 0])
    graph["bad"] = {"class_type": "PXPOTest_BadVAE", "inputs": {"cancels": cancels}}
    result = server.client.wait(server.client.queue(graph))
    assert rounds(folder) == ["round_0001"]
    assert not CHANGES & set(metrics(folder))
    if cancels:
        assert result.status == "interrupted"
    else:
        assert result.status == "success"
        assert "could not be measured: wrong kind of latent" in result.ui("update", "text")[0]
    assert server.client.run(press()).ui("update", "pxpo_update")[0]["round"] == 2
