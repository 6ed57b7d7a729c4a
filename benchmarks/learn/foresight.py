"""How much of a reward the value foresees, in pictures and predictions that it was not fitted to.

Pictures of the base model, no training. What the foresight of the objective *pictures* and the
credit by step of *path* rest on, at the places where the reward tells pictures apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pxpo_core.credit import area_average
from pxpo_core.round import worth_foreseeing
from pxpo_core.stepwise import checkpoints, predictions
from pxpo_core.value import Value, ValueSums

from . import prompts
from .cells import TUNING_SEEDS
from .tasks import Task
from .world import ToyWorld

BATCH, ROUNDS = 8, 4
"""As many pictures as the default takes of hair; the value is fitted to this many rounds."""


@dataclass(frozen=True)
class Seen:
    """Latents [B, C, h, w], and what the reward says of their pictures, [B, h, w]."""

    latents: Tensor
    maps: Tensor


def measure(world: ToyWorld, tasks: Sequence[Task]) -> dict[str, Any]:
    """{task: {...}}, a list with one figure per tuning seed each.

    finished, predictions {sigma}: the share that a value fitted to earlier rounds explains of the
    next one. fitted_everywhere: of finished pictures, had it been fitted to all places.
    reliability: what the earlier rounds say of the value.
    """
    return {task.name: _of_task(world, task) for task in tasks}


def _of_task(world: ToyWorld, task: Task) -> dict[str, Any]:
    found: dict[str, list[float]] = {"finished": [], "fitted_everywhere": [], "reliability": []}
    by_sigma: dict[str, list[float]] = {}
    for seed in TUNING_SEEDS:
        rounds = [_round(world, task, seed, n, unfinished=False)[1] for n in range(1, ROUNDS + 1)]
        sums = everywhere = ValueSums.begin(rounds[0].latents)
        for seen in rounds:
            sums = sums.after(seen.latents, seen.maps, worth_foreseeing(seen.maps))
            everywhere = everywhere.after(seen.latents, seen.maps)
        predicted, seen = _round(world, task, seed, ROUNDS + 1, unfinished=True)
        value, where = sums.fitted(), worth_foreseeing(seen.maps)
        found["finished"].append(explained(value, seen, where))
        found["fitted_everywhere"].append(explained(everywhere.fitted(), seen, where))
        found["reliability"].append(round(sums.reliability, 3))
        for sigma, prediction in predicted.items():
            by_sigma.setdefault(f"{sigma:.2f}", []).append(explained(value, prediction, where))
    return {**found, "predictions": by_sigma}


def _round(
    world: ToyWorld, task: Task, seed: int, number: int, *, unfinished: bool
) -> tuple[dict[float, Seen], Seen]:
    """A round's predictions, by noise level, and its finished pictures."""
    asked, errors = prompts.spread(task.training, BATCH), torch.Generator().manual_seed(seed)
    trajectory = world.sample(None, asked, seed, number, None, task.cfg)

    def seen(latents: Tensor) -> Seen:
        size = (latents.shape[-2], latents.shape[-1])
        return Seen(latents, area_average(task.reward(world.decode(latents), asked, errors), size))

    made = predictions(trajectory)
    places = checkpoints(len(made) - 1) if unfinished else ()
    by_sigma = {trajectory.steps[trajectory.trainable[p]].sigma_t: seen(made[p]) for p in places}
    return by_sigma, seen(trajectory.x_0)


def explained(value: Value, seen: Seen, where: Tensor) -> float:
    """1 - sum (V - R)^2 / sum (R - mean R)^2 at the places `where` [h, w] bool: 1 is all of it,
    below 0 is worse than the mean."""
    guess, maps = value(seen.latents)[:, where], seen.maps[:, where]
    return round(
        1.0 - float((guess - maps).square().sum() / (maps - maps.mean()).square().sum()), 3
    )
