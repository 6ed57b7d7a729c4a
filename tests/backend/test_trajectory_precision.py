"""Why trajectories are kept in float32: what half precision does to the gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from graph_cases import Case
from replayed import Replayed, learned, rollout_of


@pytest.fixture
def rollout(tiny: Any) -> Any:
    policy = learned(tiny.policy("attention"))
    return rollout_of(Case(tiny.model, tiny.positive, tiny.negative), policy)


def change(rollout: Any, dtype: torch.dtype, part: str) -> float:
    """How far the gradient moves, relative to its norm, when a part is stored in `dtype`."""
    exact = flat(Replayed(rollout).gradient())
    stored = getattr(rollout.trajectory, part).to(dtype).float()
    rounded = replace(rollout, trajectory=replace(rollout.trajectory, **{part: stored}))
    return float((flat(Replayed(rounded).gradient()) - exact).norm() / exact.norm())


def flat(gradient: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([gradient[name].flatten() for name in sorted(gradient)])


@pytest.mark.parametrize("part", ["states", "noises"])
def test_smaller_types_change_the_gradient(rollout: Any, part: str) -> None:
    changes = {
        dtype: change(rollout, dtype, part)
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    }
    assert changes[torch.float32] == 0.0
    assert 1e-6 < changes[torch.float16] < changes[torch.bfloat16] < 0.1
