"""A round's bookkeeping between its rewards and its update: what a run remembers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .credit import Advantage, advantage_map, area_average
from .reward import PixelReward

RUNNING_MAP = "reward.running"
RUNNING_DECAY = 0.9


@dataclass(frozen=True, slots=True)
class RewardMemory:
    """What earlier rounds left: the reward's scale, and its moving average [h, w] or None."""

    scale: float | None = None
    running: Tensor | None = None

    @classmethod
    def load(cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> "RewardMemory":
        scale = state.get("reward_scale")
        return cls(None if scale is None else float(scale), tensors.get(RUNNING_MAP))

    def after(self, advantage: Advantage, average: Tensor) -> "RewardMemory":
        """The memory once a round with this average reward map [h, w] is done."""
        if self.running is None or self.running.shape != average.shape:
            running = average
        else:
            running = RUNNING_DECAY * self.running + (1.0 - RUNNING_DECAY) * average
        return RewardMemory(self.scale or advantage.run_scale, running.contiguous().clone())

    def state(self) -> dict[str, float]:
        return {} if self.scale is None else {"reward_scale": self.scale}

    def tensors(self) -> dict[str, Tensor]:
        return {} if self.running is None else {RUNNING_MAP: self.running}


def round_advantages(
    rewards: Sequence[PixelReward],
    size: tuple[int, int],
    memory: RewardMemory,
    credit_radius: float,
) -> tuple[list[Advantage], RewardMemory]:
    """Advantage maps of a round's batches, one prompt group each, and the memory they leave.

    rewards: same picture size each. size: latent (h, w).
    """
    maps = torch.cat([reward.map for reward in rewards])
    reviewed = torch.cat([reward.reviewed for reward in rewards])
    painted = any(reward.painted for reward in rewards)
    running = memory.running
    if running is not None and tuple(running.shape) != size:
        running = None
    advantage = advantage_map(
        maps,
        size,
        groups=[group for group, reward in enumerate(rewards) for _ in range(reward.batch)],
        reviewed=reviewed,
        painted=painted,
        running=running,
        run_scale=memory.scale,
        credit_radius=credit_radius,
    )
    values = torch.split(advantage.values, [reward.batch for reward in rewards])
    advantages = [Advantage(v, advantage.rms, advantage.run_scale) for v in values]
    if not reviewed.any():
        return advantages, memory
    # A picture nobody looked at says nothing about what pictures are usually worth.
    return advantages, memory.after(advantage, area_average(maps[reviewed], size).mean(dim=0))
