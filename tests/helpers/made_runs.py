"""Runs on disk as training leaves them, without training: for tests of what shows them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import torch

from pxpo_core.lora import LoRAConfig, Policy
from pxpo_core.run import RoundRecord, RunStore

CONFIG = LoRAConfig(r=8, lora_alpha=8.0, target_modules="attention")


def make_run(root: Path, name: str, rounds: int, *, size: int = 96, partial: int = 0) -> None:
    """Add rounds to a run below `root`, each with four pictures of its own colour.

    partial: the round that was stopped early, 0 for none.
    """
    store = RunStore(root, keep_last=0)
    for _ in range(rounds):
        head = store.head(name)
        uuid, done = (head.uuid, head.round) if head else (None, 0)
        store.write_round(name, uuid, done, _record(done + 1, size, partial == done + 1))
    publish(root, name)


def publish(root: Path, name: str) -> None:
    """What the nodes leave in the run's folder for the page."""
    store = RunStore(root)
    head = store.head(name)
    assert head is not None
    shown = ("round", "id", "reward_mean", "reward_sd", "images", "partial")

    def entries(history: object) -> list[dict[str, object]]:
        return [{key: one[key] for key in shown if key in one} for one in history]  # type: ignore[attr-defined]

    store.write_overview(
        name,
        {
            "run": name,
            "uuid": head.uuid,
            "round": head.round,
            "history": entries(head.history),
            "branches": [
                {"branch": b.number, "history": entries(store.branch_history(name, b.number))}
                for b in store.branches(name)
            ],
        },
    )


def overview(root: Path, name: str) -> dict[str, object]:
    """What the page reads."""
    return dict(json.loads((root / name / "overview.json").read_text(encoding="utf-8")))


def _record(number: int, size: int, partial: bool) -> RoundRecord:
    tensors = {
        "attn.lora_down.weight": torch.full((8, 4), 0.01 * number),
        "attn.lora_up.weight": torch.full((4, 8), 0.01 * number),
    }
    reward = -0.6 + 0.5 * (1 - 0.93**number) + 0.02 * math.sin(3.0 * number)
    metrics = {"reward_mean": reward, "reward_sd": 0.06, "images": 4, "marked_images": 4}
    return RoundRecord(
        policy=Policy(CONFIG, tensors),
        optimizer={name: torch.zeros_like(tensor) for name, tensor in tensors.items()},
        base="base",
        reward_maps=torch.full((4, 8, 8), reward),
        thumbnails=torch.stack([_picture(number, i, size) for i in range(4)]),
        metrics={**metrics, "partial": True} if partial else metrics,
    )


def _picture(number: int, index: int, size: int) -> torch.Tensor:
    """A disc before a background; the colours tell the round, the place tells the picture."""
    y, x = np.mgrid[:size, :size] / size
    disc = np.hypot(x - 0.5, y - 0.35 - 0.1 * index) < 0.3
    turn = number * 0.7 + np.array([0.0, 2.1, 4.2])
    pixels = np.where(
        disc[..., None], 128 + 100 * np.cos(turn), 60 + 40 * np.sin(turn) + 60 * y[..., None]
    )
    return torch.from_numpy(pixels.clip(0, 255).astype(np.uint8))
