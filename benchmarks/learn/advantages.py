"""A round's advantage maps under each baseline; what DDPO remembers of its prompts."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from pxpo_core.credit import CLIP, Advantage, Foresight, area_average, joined, scale_and_clip
from pxpo_core.reward import automatic_reward
from pxpo_core.round import RewardMemory, liked_after, round_advantages, split_by_value
from pxpo_core.stepwise import judged_credit

from .methods import Method

BUFFER, MINIMUM = 32, 16


@dataclass
class PromptStatistics:
    """Mean and deviation of each prompt's last rewards, as ddpo-pytorch tracks them.

    Prompts with fewer than MINIMUM images so far use the whole batch.
    """

    _seen: dict[str, deque[float]] = field(default_factory=dict)

    def normalise(self, prompts: Sequence[str], rewards: Tensor) -> Tensor:
        """(R - mean) / (std + 1e-6) per prompt, [B] to [B]; remembers the rewards."""
        result = torch.empty_like(rewards)
        for prompt in dict.fromkeys(prompts):
            members = [i for i, other in enumerate(prompts) if other == prompt]
            seen = self._seen.setdefault(prompt, deque(maxlen=BUFFER))
            seen.extend(rewards[members].tolist())
            known = torch.tensor(list(seen)) if len(seen) >= MINIMUM else rewards
            spread = known.std(correction=0) + 1e-6
            result[members] = (rewards[members] - known.mean()) / spread
        return result


class Credit:
    """Turns a run's reward maps into advantages, round after round."""

    def __init__(
        self, method: Method, latent_size: tuple[int, int] = (32, 32), painted: bool = False
    ) -> None:
        self._method, self._size = method, latent_size
        self._prompts = PromptStatistics()
        self._memory = RewardMemory(painted)

    def advantage(
        self,
        rewards: Tensor,
        images: Tensor,
        prompts: Sequence[str],
        predictions: Tensor | None = None,
        judged: Tensor | None = None,
    ) -> Advantage:
        """rewards: [B, H, W] for images [B, H, W, 3], equal prompts side by side.

        predictions: [S + 1, B, C, h, w], to credit steps. judged: their rewards, [M, B, H, W].
        """
        if self._method.baseline == "ddpo":
            scores = self._prompts.normalise(prompts, rewards.mean(dim=(1, 2))).clamp(-CLIP, CLIP)
            return Advantage(scores[:, None, None].expand(-1, *self._size).contiguous(), 1.0, 1.0)
        if self._method.baseline == "none":
            return self._plain(area_average(rewards, self._size), predictions, judged)
        groups = _runs(prompts)
        parts, self._memory = round_advantages(
            [
                replace(
                    automatic_reward(rewards[g], images[g], "benchmark"),
                    painted=self._memory.painted,
                )
                for g in groups
            ],
            self._size,
            self._memory,
            self._method.credit_radius,
            None if predictions is None else [predictions[:, g] for g in groups],
            None if judged is None else [judged[:, g].flatten(0, 1) for g in groups],
        )
        return joined(parts)

    def _plain(self, maps: Tensor, predictions: Tensor | None, judged: Tensor | None) -> Advantage:
        """Rewards [B, h, w] as they are, all else as in a run."""
        steps: Tensor | None = None
        foresight: Foresight | None = None
        liked = self._memory.liked
        if judged is not None and predictions is not None:
            seen = torch.stack([area_average(reward, self._size) for reward in judged])
            steps = judged_credit(seen, maps, len(predictions) - 1)
        elif predictions is not None:
            everyone = torch.ones(len(maps), dtype=torch.bool)
            liked, _ = liked_after(self._memory, [predictions], maps, everyone)
            split, _ = split_by_value(liked, [predictions], everyone, self._memory.painted)
            steps, foresight = split(maps, lambda rest: rest)
        result = scale_and_clip(maps, self._memory.scale, False, steps, foresight)
        self._memory = RewardMemory(self._memory.painted, result.run_scale, liked=liked)
        return result


def _runs(prompts: Sequence[str]) -> list[slice]:
    """Slices of equal neighbours."""
    starts = [i for i in range(len(prompts)) if i == 0 or prompts[i] != prompts[i - 1]]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], len(prompts)], strict=True)]
