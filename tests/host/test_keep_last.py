"""What old rounds keep: the LoRA always, the rest as long as the person wants."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from host_prompts import Graph
from pxpo_dev.server import Server


def holding(folder: Path, name: str) -> list[int]:
    """Numbers of the rounds that have a file."""
    return sorted(int(path.parent.name[-4:]) for path in folder.glob(f"round_*/{name}"))


def test_old_rounds_keep_what_the_person_asked_for(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    go_on = {"auto_stop": False}  # so few and so small pictures look like falling apart
    for _ in range(3):
        server.client.run(press(update=go_on))
    assert holding(folder, "optimizer.safetensors") == [1, 2, 3], "the default keeps twenty"
    server.client.run(press(update={"keep_last": 2, **go_on}))
    assert holding(folder, "optimizer.safetensors") == [3, 4]
    assert holding(folder, "thumb_01.jpg") == [3, 4]
    server.client.run(press(update={"keep_last": 0, **go_on}))
    assert holding(folder, "optimizer.safetensors") == [3, 4, 5]
    for name in ("lora.safetensors", "thumb_00.jpg", "reward_00.png", "metrics.json"):
        assert holding(folder, name) == [1, 2, 3, 4, 5]
