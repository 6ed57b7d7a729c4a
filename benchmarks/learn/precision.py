"""Does the fast path change what is measured? The same policy and noise in both precisions.

Run by `python3 scripts/bench.py learn precision`; interleaved, so that both see the same machine.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from pxpo_core.lora import Policy

from .prompts import HELD_OUT, interleaved
from .tasks import blue_level
from .world import Settings, ToyWorld

SEED = 4242


def compare(fast: ToyWorld, exact: ToyWorld, count: int, repeats: int) -> dict[str, Any]:
    """Mean blue of `count` pictures in both precisions, and the ratio of their times."""
    policy = moved(exact)
    asked = interleaved(HELD_OUT, count)
    levels: dict[str, list[float]] = {}
    pictures, seconds = {}, {"fast": [0.0] * repeats, "exact": [0.0] * repeats}
    for repeat in range(repeats + 1):
        for name, world in (("fast", fast), ("exact", exact)):
            begun = time.perf_counter()
            sampled = world.sample(policy, asked, SEED, 1)
            # The first pass compiles.
            if repeat:
                seconds[name][repeat - 1] = time.perf_counter() - begun
            pictures[name] = exact.decode(sampled.x_0)
            levels[name] = blue_level(pictures[name]).tolist()
    base = blue_level(exact.decode(exact.sample(None, asked, SEED, 1).x_0))
    change = [f - e for f, e in zip(levels["fast"], levels["exact"], strict=True)]
    return {
        "pictures": count,
        "blue_exact": statistics.fmean(levels["exact"]),
        "blue_change_mean": statistics.fmean(change),
        "blue_change_largest": max(abs(c) for c in change),
        "blue_base": float(base.mean()),
        "pixel_change_mean": float((pictures["fast"] - pictures["exact"]).abs().mean()),
        "times_faster": [
            round(e / f, 2) for e, f in zip(seconds["exact"], seconds["fast"], strict=True)
        ],
    }


def moved(world: ToyWorld) -> Policy:
    """A LoRA with a random, visible effect."""
    fresh = world.new_policy()
    generator = torch.Generator().manual_seed(SEED)
    tensors = {
        name: t if "down" in name else 0.01 * torch.randn(t.shape, generator=generator)
        for name, t in fresh.tensors.items()
    }
    return Policy(fresh.config, tensors)


def measure(threads: int, count: int = 16, repeats: int = 3) -> dict[str, Any]:
    """Both worlds at the benchmark's own settings."""
    settings = Settings()
    fast = ToyWorld(settings, fast=True, threads=threads)
    return compare(fast, ToyWorld(settings, fast=False, threads=threads), count, repeats)
