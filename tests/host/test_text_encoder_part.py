"""A run that starts from a file which also changes the text encoder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from host_prompts import Graph
from pxpo_dev.server import Server
from safetensors.torch import load_file, save_file


def test_the_part_that_is_left_out_is_said(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    server.client.run(press(run={"run_name": folder.name + " style"}))
    made = folder.with_name(folder.name + " style") / "round_0001" / "lora.safetensors"
    text = {"lora_te_text_model_q.lora_up.weight": torch.ones(4, 4)}
    target = server.base / "models" / "loras" / f"{folder.name}.safetensors"
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(load_file(made) | text, target)
    result = server.client.run(press(run={"start_from": target.name}))
    assert "without its part for the text encoder" in result.ui("run", "text")[0]
