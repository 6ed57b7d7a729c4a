"""How far the gradients of independent batches agree: the share of signal in one batch's gradient.

Of two independent gradients g = s + n with a common signal s the expected cosine is
|s|^2 / (|s|^2 + |n|^2). One policy (the base model's), no training, no learning rate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pxpo_core.credit import Advantage, blur
from pxpo_core.denoiser import Denoiser
from pxpo_core.lora import LoRALayers
from pxpo_core.objective import StepWeighting, matching_loss, step_weights, stored_noise_loss
from pxpo_core.rollout import Trajectory, finished_pictures
from pxpo_core.stepwise import checkpoints, predictions

from . import prompts
from .advantages import Credit
from .methods import METHODS, OURS
from .tasks import Task
from .world import ToyWorld, WorldSession

BATCH, BATCHES = 8, 4
EVERY = 2
"""Every second step is trained: 8 of 15, as many as the default trains."""

WEIGHTINGS: tuple[StepWeighting, ...] = ("exact", "uniform", "denoised")
SEED = 500
REFERENCE = ("judged, per pixel", "denoised")
"""The credit without a fit, whose direction the others are compared with."""

Gradients = dict[tuple[str, str], Tensor]
"""By credit and step weighting; the gradient of the LoRA's up matrices."""


def measure(world: ToyWorld, tasks: Sequence[Task], batches: int = BATCHES) -> dict[str, Any]:
    """{task: {credit: {weighting: mean cosine of all pairs of batches}}}, and the same for the
    directions: the cosine between a credit's signal and the reference's."""
    measured = {task.name: _of_task(world, task, batches) for task in tasks}
    return {
        "batch": BATCH,
        "batches": batches,
        "cosines": {name: _nested(agree) for name, (agree, _) in measured.items()},
        "directions": {name: _nested(along) for name, (_, along) in measured.items()},
    }


def _of_task(
    world: ToyWorld, task: Task, batches: int
) -> tuple[dict[tuple[str, str], float], dict[tuple[str, str], float]]:
    found = [_gradients(world, task, number) for number in range(batches)]
    rows = {key: [gradients[key] for gradients in found] for key in found[0]}
    agree = {key: agreement(gradients) for key, gradients in rows.items()}
    reference = rows[REFERENCE]
    along = {
        key: direction(gradients, reference, agree[key], agree[REFERENCE])
        for key, gradients in rows.items()
    }
    return agree, along


def agreement(gradients: Sequence[Tensor]) -> float:
    """Mean cosine of all pairs."""
    pairs = [_cosine(a, b) for a, b in itertools.combinations(gradients, 2)]
    return sum(pairs) / len(pairs)


def direction(
    gradients: Sequence[Tensor], others: Sequence[Tensor], own_agree: float, agree: float
) -> float:
    """The cosine between two kinds' signals, from pairs of different batches; nan if lost in noise.

    The pairs' mean cosine is that of the signals times sqrt(own_agree * agree).
    """
    if own_agree <= 0.0 or agree <= 0.0:
        return math.nan
    pairs = [_cosine(a, b) for i, a in enumerate(gradients) for j, b in enumerate(others) if i != j]
    return sum(pairs) / len(pairs) / math.sqrt(own_agree * agree)


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, dim=0))


def _nested(flat: Mapping[tuple[str, str], float]) -> dict[str, dict[str, float | None]]:
    nested: dict[str, dict[str, float | None]] = {}
    for (credit, weighting), value in flat.items():
        rounded = round(value, 3) if math.isfinite(value) else None
        nested.setdefault(credit, {})[weighting] = rounded
    return nested


def _gradients(world: ToyWorld, task: Task, number: int) -> Gradients:
    """One batch's gradients of every kind."""
    asked = prompts.spread(task.training, BATCH)
    policy = world.new_policy()
    trajectory = world.sample(policy, asked, SEED, number, None, task.cfg)
    advantages = _advantages(world, task, asked, trajectory)
    layers = LoRALayers(policy)
    ups = [p for name, p in layers.parameters.items() if "lora_up" in name]
    session = WorldSession(world, layers, asked, task.cfg)
    sums: Gradients = {}

    def add(credit: str, loss: Tensor, weights: Mapping[str, float]) -> None:
        parts = torch.autograd.grad(loss, ups, retain_graph=True)
        gradient = torch.cat([part.flatten() for part in parts])
        for weighting, weight in weights.items():
            key = (credit, weighting)
            sums[key] = sums.get(key, torch.zeros_like(gradient)) + weight * gradient

    steps = [trajectory.steps[t] for t in trajectory.trainable]
    by_kind = {kind: step_weights(steps, kind) for kind in WEIGHTINGS}
    for place in range(0, len(steps), EVERY):
        t, step = trajectory.trainable[place], steps[place]
        denoised = session(partial(_denoised, trajectory, t))
        weights = {kind: by_kind[kind][place] for kind in WEIGHTINGS}
        for credit, advantage in advantages.items():
            for share, spread in (("pixel", 0.0), ("image", math.inf)):
                worth = blur(advantage.at(t), spread)
                loss = stored_noise_loss(denoised, trajectory.noises[t], worth, step)
                add(f"{credit}, per {share}", loss, weights)
    fitted = advantages["fitted"]
    assert fitted.foresight is not None
    noised = finished_pictures(trajectory, SEED, number, range(BATCH))
    for t in noised.trainable[::EVERY]:
        step = noised.steps[t]
        denoised = session(partial(_denoised, noised, t))
        known = denoised.detach()
        unforeseen = fitted.foresight.at(known, slice(0, BATCH))
        for credit, worth in (("plain", fitted.values), ("foreseen", unforeseen)):
            loss = matching_loss(denoised, known, noised.x_0, worth, step)
            add(f"finished pictures, {credit}", loss, {"denoised": 1.0})
    return sums


def _denoised(trajectory: Trajectory, t: int, denoise: Denoiser) -> Tensor:
    return denoise(trajectory.states[t], trajectory.steps[t].sigma_t, range(trajectory.batch))


def _advantages(
    world: ToyWorld, task: Task, asked: list[str], trajectory: Trajectory
) -> dict[str, Advantage]:
    """Each way to credit the steps."""
    errors, made = torch.Generator().manual_seed(0), predictions(trajectory)
    pictures = world.decode(trajectory.x_0)
    rewards = task.reward(pictures, asked, errors)
    seen = [task.reward(world.decode(made[t]), asked, errors) for t in checkpoints(len(made) - 1)]
    found = {}
    for name, steps, judged in (
        ("whole path", None, None),
        ("fitted", made, None),
        ("judged", made, torch.stack(seen)),
    ):
        credit = Credit(METHODS[OURS])
        found[name] = credit.advantage(rewards, pictures, asked, steps, judged)
    return found
