"""How far the gradients of independent batches agree: the share of signal in one batch's gradient.

Of two independent gradients g = s + n with a common signal s the expected cosine is
|s|^2 / (|s|^2 + |n|^2). One policy (the base model's), no training, no learning rate.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pxpo_core.credit import blur
from pxpo_core.denoiser import Denoiser
from pxpo_core.lora import LoRALayers
from pxpo_core.objective import StepWeighting, step_weights, stored_noise_loss
from pxpo_core.rollout import Trajectory
from pxpo_core.stepwise import checkpoints, predictions

from . import prompts
from .advantages import Credit
from .methods import METHODS
from .tasks import Task
from .world import ToyWorld, WorldSession

BATCH, BATCHES = 16, 3
WEIGHTINGS: tuple[StepWeighting, ...] = ("exact", "uniform", "denoised")
SEED = 500
Credits = dict[str, Tensor]


def measure(world: ToyWorld, tasks: Sequence[Task], batches: int = BATCHES) -> dict[str, Any]:
    """{task: {credit: {weighting: mean cosine of all pairs of batches}}}."""
    return {
        "batch": BATCH,
        "batches": batches,
        "cosines": {task.name: _of_task(world, task, batches) for task in tasks},
    }


def _of_task(world: ToyWorld, task: Task, batches: int) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, list[Tensor]]] = {}
    for number in range(batches):
        for credit, by_step in _gradients(world, task, number).items():
            for weighting, gradient in by_step.items():
                found.setdefault(credit, {}).setdefault(weighting, []).append(gradient)
    return {
        credit: {weighting: round(agreement(g), 3) for weighting, g in kinds.items()}
        for credit, kinds in found.items()
    }


def agreement(gradients: Sequence[Tensor]) -> float:
    """Mean cosine of all pairs."""
    pairs = [
        float(torch.cosine_similarity(a, b, dim=0)) for a, b in itertools.combinations(gradients, 2)
    ]
    return sum(pairs) / len(pairs)


def _gradients(world: ToyWorld, task: Task, number: int) -> dict[str, dict[str, Tensor]]:
    """One batch's gradient of the LoRA's up matrices, by credit and step weighting."""
    asked = prompts.spread(task.training, BATCH)
    policy = world.new_policy()
    trajectory = world.sample(policy, asked, SEED, number, None, task.cfg)
    credits = _credits(world, task, asked, trajectory)
    layers = LoRALayers(policy)
    ups = [p for name, p in layers.parameters.items() if "lora_up" in name]
    steps = [trajectory.steps[t] for t in trajectory.trainable]
    weights = {kind: step_weights(steps, kind) for kind in WEIGHTINGS}
    sums: dict[str, dict[str, Tensor]] = {
        name: {kind: torch.zeros(sum(p.numel() for p in ups)) for kind in WEIGHTINGS}
        for name in credits
    }
    session = WorldSession(world, layers, asked, task.cfg)
    for t, step in zip(trajectory.trainable, steps, strict=True):
        denoised = session(partial(_denoised, trajectory, t))
        for i, (name, worth) in enumerate(credits.items()):
            loss = stored_noise_loss(denoised, trajectory.noises[t], worth[t], step)
            parts = torch.autograd.grad(loss, ups, retain_graph=i + 1 < len(credits))
            gradient = torch.cat([part.flatten() for part in parts])
            for kind in WEIGHTINGS:
                sums[name][kind] += weights[kind][t] * gradient
    return sums


def _denoised(trajectory: Trajectory, t: int, denoise: Denoiser) -> Tensor:
    return denoise(trajectory.states[t], trajectory.steps[t].sigma_t, range(trajectory.batch))


def _credits(
    world: ToyWorld, task: Task, asked: list[str], trajectory: Trajectory
) -> Mapping[str, Tensor]:
    """Each way to credit the steps, [S, B, h, w], per pixel and as one number per image."""
    errors, made = torch.Generator().manual_seed(0), predictions(trajectory)
    pictures = world.decode(trajectory.x_0)
    rewards = task.reward(pictures, asked, errors)
    seen = [task.reward(world.decode(made[t]), asked, errors) for t in checkpoints(len(made) - 1)]
    found: Credits = {}
    for name, kind in (("whole path", None), ("fitted", None), ("judged", torch.stack(seen))):
        credit = Credit(METHODS["default"])
        advantage = credit.advantage(
            rewards, pictures, asked, None if name == "whole path" else made, kind
        )
        by_step = torch.stack([advantage.at(t) for t in trajectory.trainable])
        found[f"{name}, per pixel"] = by_step
        found[f"{name}, per image"] = blur(by_step, float("inf"))
    return found
