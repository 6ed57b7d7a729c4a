"""A round's bookkeeping between its rewards and its update: what a run remembers."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from .credit import Advantage, StepSplit, advantage_map, area_average, beyond
from .metrics import summarize_rewards
from .reward import PixelReward
from .stepwise import fitted_credit, judged_credit, places_told_apart, side_by_side
from .update import UpdateResult
from .value import ValueSums

RUNNING_DECAY = 0.9

PAINTED_TRUST = 0.1
"""Share of what a value cannot explain of painted feedback that is learned from: most of it is how
people mark, but a wish that no value sees has nothing else. Rules say what they mean."""


@dataclass(frozen=True, slots=True)
class RewardMemory:
    """What earlier rounds left: the reward's scale, its moving average [h, w], what is liked.

    A run keeps one memory for painted and one for automatic rewards: their scales differ.
    """

    painted: bool = False
    scale: float | None = None
    running: Tensor | None = None
    liked: ValueSums | None = None

    @classmethod
    def load(
        cls, state: Mapping[str, Any], tensors: Mapping[str, Tensor], painted: bool
    ) -> "RewardMemory":
        scale = state.get(_scale_key(painted))
        return cls(
            painted,
            None if scale is None else float(scale),
            tensors.get(_running_key(painted)),
            ValueSums.load(tensors, _liked_prefix(painted)),
        )

    def after(
        self, advantage: Advantage, average: Tensor, liked: ValueSums | None
    ) -> "RewardMemory":
        """The memory once a round with this average reward map [h, w] is done."""
        if self.running is None or self.running.shape != average.shape:
            running = average
        else:
            running = RUNNING_DECAY * self.running + (1.0 - RUNNING_DECAY) * average
        scale = self.scale or advantage.run_scale
        return RewardMemory(self.painted, scale, running.contiguous().clone(), liked)

    def add_to(
        self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """A run's state and stored tensors with this memory in them; the other kind's is kept."""
        kept = dict(tensors)
        if self.running is not None:
            kept[_running_key(self.painted)] = self.running
        if self.liked is not None:
            kept |= self.liked.tensors(_liked_prefix(self.painted))
        scale = {} if self.scale is None else {_scale_key(self.painted): self.scale}
        return {**state, **scale}, kept


def _kind(painted: bool) -> str:
    return "painted" if painted else "automatic"


def _scale_key(painted: bool) -> str:
    return f"{_kind(painted)}.reward_scale"


def _running_key(painted: bool) -> str:
    return f"{_kind(painted)}.running_reward"


def _liked_prefix(painted: bool) -> str:
    return f"{_kind(painted)}.value."


def round_advantages(
    rewards: Sequence[PixelReward],
    size: tuple[int, int],
    memory: RewardMemory,
    credit_radius: float,
    predictions: Sequence[Tensor] | None = None,
    judged: Sequence[Tensor] | None = None,
) -> tuple[list[Advantage], RewardMemory]:
    """Advantage maps of a round's batches, one prompt group each, and the memory they leave.

    rewards: same picture size each, all of the memory's kind. size: latent (h, w). predictions:
    of each batch, see `stepwise`; None: every sampling step is credited with the whole picture.
    judged: reward maps [M b, H, W] of each batch's predictions at their checkpoints, M first, or
    None where only finished pictures were judged.
    """
    maps = torch.cat([reward.map for reward in rewards])
    reviewed = torch.cat([reward.reviewed for reward in rewards])
    running = memory.running
    if running is not None and tuple(running.shape) != size:
        running = None

    latent_maps = area_average(maps, size)
    liked, split, agreement, opposite, believed = memory.liked, None, 1.0, False, 1.0
    if predictions is not None and judged is not None:
        split = _judged_split(rewards, size, predictions, judged)
    elif predictions is not None and reviewed.any():
        liked, opposite = liked_after(memory, predictions, latent_maps, reviewed)
        split, believed = split_by_value(liked, predictions, reviewed, memory.painted)
        agreement = liked.agreement if memory.painted else 1.0
    batches = [reward.batch for reward in rewards]
    advantage = advantage_map(
        maps,
        size,
        groups=[group for group, batch in enumerate(batches) for _ in range(batch)],
        reviewed=reviewed,
        painted=memory.painted,
        # A value knows what pictures are usually worth, and better than their mean.
        running=running if split is None else None,
        run_scale=memory.scale,
        credit_radius=credit_radius,
        split=split,
    )
    advantage = replace(advantage, agreement=agreement, opposite=opposite, reliability=believed)
    ends = itertools.accumulate(batches)
    advantages = [
        advantage.rows(slice(end - batch, end)) for batch, end in zip(batches, ends, strict=True)
    ]
    if not reviewed.any():
        return advantages, memory
    # A picture nobody looked at says nothing about what pictures are usually worth.
    return advantages, memory.after(advantage, latent_maps[reviewed].mean(dim=0), liked)


def split_by_value(
    liked: ValueSums, predictions: Sequence[Tensor], reviewed: Tensor, painted: bool
) -> tuple[StepSplit, float]:
    """How a guess that knows the round credits its steps, and the share of the guess believed.

    Of marks, the guess is what is learned from. What rules say is learned from in any case, and a
    guess only says what was to be expected: a wrong one misleads.
    """
    trust, believed = (PAINTED_TRUST, 1.0) if painted else (1.0, liked.reliability)
    return partial(fitted_credit, predictions, liked.fitted(believed), reviewed, trust), believed


def liked_after(
    memory: RewardMemory, predictions: Sequence[Tensor], maps: Tensor, reviewed: Tensor
) -> tuple[ValueSums, bool]:
    """What is liked once the reviewed pictures and their maps [B, h, w] are known too, and whether
    that is the opposite of what was liked before."""
    finished = torch.cat([made[-1] for made in predictions])[reviewed]
    liked = memory.liked or ValueSums.begin(finished)
    where = None if memory.painted else worth_foreseeing(maps[reviewed])
    new = liked.of_round(finished, maps[reviewed], where)
    return liked.with_round(new), new.opposite


def worth_foreseeing(maps: Tensor) -> Tensor:
    """Where a rule's maps [B, h, w] differ between pictures, else everywhere: [h, w] bool.

    Elsewhere nothing is learned, and a guess that is also fitted to what a rule never looks at
    spends itself on where the rule looks. A person's unmarked places say that nothing is wrong.
    """
    told = places_told_apart(beyond(maps, maps.mean(dim=0)))
    return told if bool(told.any()) else torch.ones_like(told)


def _judged_split(
    rewards: Sequence[PixelReward],
    size: tuple[int, int],
    predictions: Sequence[Tensor],
    judged: Sequence[Tensor],
) -> StepSplit:
    """Each step earns what the reward of its prediction changed by; see `round_advantages`."""
    steps = side_by_side(
        [
            judged_credit(
                area_average(seen, size).reshape(-1, reward.batch, *size),
                area_average(reward.map, size),
                len(made) - 1,
            )
            for seen, reward, made in zip(judged, rewards, predictions, strict=True)
        ]
    )
    return lambda _maps, _without_baseline: (steps, None)


def reward_name(rewards: Sequence[PixelReward]) -> str:
    """What the run's history calls a round's rewards."""
    return " + ".join(dict.fromkeys(reward.label for reward in rewards))


def round_metrics(
    rewards: Sequence[PixelReward],
    result: UpdateResult,
    sampling_steps: int,
    earlier_state: Mapping[str, Any],
    seconds: float,
) -> dict[str, Any]:
    """A round's rewards and its training in numbers, under the names of the run's history.

    earlier_state: the run's state before the round. seconds: how long the round took.
    """
    maps = torch.cat([reward.map for reward in rewards])
    summary = summarize_rewards(maps)
    _, height, width = maps.shape
    return {
        "reward_mean": summary.mean,
        "reward_sd": summary.sd,
        "reward": reward_name(rewards),
        "images": summary.images,
        "marked_images": sum(reward.marked_images for reward in rewards),
        "size": [width, height],
        "images_total": int(earlier_state.get("images_total", 0)) + summary.images,
        "marked_area": summary.marked_area,
        "seconds": round(seconds, 3),
        "grad_norm": result.grad_norm,
        "kl": result.kl,
        "learning_rate": result.learning_rate,
        "trained_steps": list(result.trained_steps),
        "sampling_steps": sampling_steps,
        "micro_batch": result.micro_batch,
    }
