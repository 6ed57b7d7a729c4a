"""How well earlier rounds foresee a round's signs, for marks that are right, wrong, or both.

Pictures of the base model, a person who always has the same wish, no training: what CHANCE and
CLEAR of `pxpo_core.value` were chosen from.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pxpo_core.credit import area_average
from pxpo_core.value import ValueSums

from . import prompts
from .cells import BRANCHES, TUNING_SEEDS
from .feedback_noise import spoil
from .tasks import Task
from .trial import Bench

ROUNDS = 8
MARKS = {
    "dislikes": (False, 0.0),
    "likes and dislikes": (True, 0.0),
    "25 % flip": (False, 0.25),
    "50 % flip": (False, 0.5),
}
"""Whether a place is liked as well, and the share of regions with the wrong sign."""

Round = tuple[Tensor, Tensor]
"""Latents [B, C, h, w] and the pictures' maps [B, H, W]."""


def measure(bench: Bench, task: Task) -> dict[str, list[list[float]]]:
    """{marks: per tuning seed, the agreement before it is cut to 0..1 after rounds 2, 3, ...}."""
    found: dict[str, list[list[float]]] = {name: [] for name in MARKS}
    for seed in TUNING_SEEDS:
        rounds = _rounds(bench, task, seed)
        for name, (likes, share) in MARKS.items():
            errors = torch.Generator().manual_seed(seed)
            marked = [
                (latents, spoil(_with_likes(maps) if likes else maps, "flip", share, errors))
                for latents, maps in rounds
            ]
            found[name].append(ratios(marked))
    return found


def ratios(rounds: Sequence[Round]) -> list[float]:
    """What each round but the first leaves: agreed marks over foreseen marks, of all rounds."""
    sums, found = ValueSums.begin(rounds[0][0]), []
    for latents, maps in rounds:
        sums = sums.after(latents, area_average(maps, (latents.shape[-2], latents.shape[-1])))
        signed, unsigned = (float(sum_) for sum_ in sums.agreed)
        found.append(round(signed / unsigned, 3) if unsigned > 0.0 else 0.0)
    return found[1:]


def _rounds(bench: Bench, task: Task, seed: int) -> list[Round]:
    """What the base model draws of the seed's picture, and what the person paints on it."""
    start, errors = bench.start_of(seed), torch.Generator().manual_seed(seed)
    asked, rounds = prompts.spread(task.training, BRANCHES), []
    for number in range(1, ROUNDS + 1):
        latents = bench.world.sample(None, asked, seed, number, start, task.cfg).x_0
        rounds.append((latents, task.reward(bench.world.decode(latents), asked, errors)))
    return rounds


def _with_likes(maps: Tensor) -> Tensor:
    """The maps with the lower middle of every picture liked."""
    _, height, width = maps.shape
    liked = maps.clone()
    liked[:, 5 * height // 8 :, width // 4 : 3 * width // 4] = 1.0
    return liked
