"""Fixtures of the core tests: small policies and rounds, and one torch thread per process."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pxpo_core.lora import LoRAConfig, Policy
from pxpo_core.run import RoundRecord, RunStore

CONFIG = LoRAConfig(r=2, lora_alpha=2.0, target_modules="attention", init_seed=0)


def make_policy(seed: int, config: LoRAConfig = CONFIG) -> Policy:
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        "a.to_q.lora_down.weight": torch.randn((config.r, 5), generator=generator),
        "a.to_q.lora_up.weight": torch.randn((4, config.r), generator=generator),
    }
    return Policy(config, tensors)


def make_record(seed: int = 0, **changes: Any) -> RoundRecord:
    policy = changes.pop("policy", make_policy(seed))
    values = {
        "policy": policy,
        "optimizer": {f"{name}.exp_avg": torch.ones_like(t) for name, t in policy.tensors.items()},
        "base": "sha256:base",
        "reward_maps": torch.linspace(-1, 1, 2 * 8 * 6).reshape(2, 8, 6),
        "thumbnails": torch.full((2, 8, 6, 3), 100, dtype=torch.uint8),
        "state": {"reward_scale": 0.5, "seed": seed},
        "metrics": {"reward_mean": -0.1 * seed},
        "settings": {"learning_rate": 1e-3},
    }
    return RoundRecord(**{**values, **changes})


@pytest.fixture
def record() -> Callable[..., RoundRecord]:
    return make_record


@pytest.fixture
def policy() -> Callable[..., Policy]:
    return make_policy


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore(tmp_path / "pxpo", lock_timeout=0.2)


def add_rounds(store: RunStore, name: str, rounds: int) -> None:
    """What `rounds` presses of Run leave on the disk."""
    for _ in range(rounds):
        head = store.head(name)
        uuid, number = (head.uuid, head.round) if head else (None, 0)
        store.write_round(name, uuid, number, make_record(number + 1))


@pytest.fixture(scope="session")
def make_rounds() -> Callable[[RunStore, str, int], None]:
    return add_rounds


@pytest.fixture
def train(store: RunStore) -> Callable[[str, int], None]:
    """train(name, n): add n rounds to a run of `store`."""
    return lambda name, rounds: add_rounds(store, name, rounds)
