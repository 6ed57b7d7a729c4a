"""Stepwise credit: each sampling step is worth what it changed, not what all of them led to.

PXPO credits every step's noise at a pixel with the finished pixel, so each step's signal drowns in
what the other steps did. But the prediction D_t says what the picture was going to be: with a value
V of pictures, step t earns V(D_t+1) - V(D_t), a temporal difference (Sutton 1988), per pixel.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .credit import Baseline, Foresight
from .rollout import Trajectory
from .value import Value

CHECKPOINTS = 8
"""How many predictions of a picture are looked at where a reward can judge them."""


def predictions(trajectory: Trajectory) -> Tensor:
    """What each state was going to become, and what it became: [S + 1, B, C, h, w], S trainable.

    D is recovered from x_s = a_s D + direction (x_t - a_t D) / sigma_t + std z. Pixels without
    noise of their own (masked ones) show the finished picture throughout. Pictures that were
    finished before noise was added to them only have x_0, S = 0.
    """
    if trajectory.process == "forward":
        return trajectory.x_0[None]
    states, noises, x_0 = trajectory.states, trajectory.noises, trajectory.x_0
    found = []
    for t in trajectory.trainable:
        step = trajectory.steps[t]
        x_s = states[t + 1] if t + 1 < len(states) else x_0
        mean = x_s - step.std * noises[t]
        denoised = (mean - step.direction / step.sigma_t * states[t]) / step.gain
        found.append(torch.where(noises[t].any(dim=1, keepdim=True), denoised, x_0))
    return torch.stack([*found, x_0])


def fitted_credit(
    rounds: Sequence[Tensor],
    value: Value,
    reviewed: Tensor,
    trust: float,
    rewards: Tensor,
    without_baseline: Baseline,
) -> tuple[Tensor, Foresight]:
    """What every step earned by a value fitted to finished pictures: [S, B, h, w].

    rounds: predictions of each rollout, [S + 1, b, C, h, w]; S is the largest one's. reviewed: [B]
    bool, some are; the others earn nothing. rewards: [B, h, w] of all rollouts' pictures, as they
    are; value: of these, too, as a fit to them without their baseline would have to explain what
    the other pictures earned. trust: share of what the value does not explain that counts, without
    its baseline, for every step. The foresight says the same of finished pictures, whatever noise
    is added to them. Places where no picture is worth more than another earn nothing, whatever the
    value would guess there.
    """
    told = places_told_apart(without_baseline(rewards)[reviewed])
    value = only_where(told, value)
    foreseen = [torch.stack([value(denoised) for denoised in made]) for made in rounds]
    explained = torch.cat([values[-1] for values in foreseen])
    unexplained = trust * without_baseline(rewards - explained)
    steps = [
        values.diff(dim=0) + rest
        for values, rest in zip(
            foreseen, torch.split(unexplained, [made.shape[1] for made in rounds]), strict=True
        )
    ]
    foresight = Foresight(value, explained + unexplained, reviewed)
    return side_by_side(steps) * reviewed[:, None, None], foresight


def places_told_apart(worth: Tensor) -> Tensor:
    """Where feedback tells pictures apart: [h, w] bool, of rewards without baseline [B, h, w]."""
    return worth.ne(0.0).any(dim=0)


def only_where(told: Tensor, value: Value) -> Value:
    """The value at the places `told` [h, w], 0 elsewhere."""
    return lambda latents: value(latents) * told


def checkpoints(steps: int) -> tuple[int, ...]:
    """The trainable steps, of `steps`, whose predictions are looked at: first one first."""
    count = min(CHECKPOINTS, steps)
    return tuple(i * steps // count for i in range(count))


def judged_credit(rewards: Tensor, finished: Tensor, steps: int) -> Tensor:
    """What every step earned by the reward of the predictions themselves: [steps, B, h, w].

    rewards: [len(checkpoints), B, h, w]; finished: [B, h, w], the finished pictures'. Steps between
    two checkpoints earn what they changed together.
    """
    earned = torch.cat([rewards, finished[None]]).diff(dim=0)
    starts = checkpoints(steps)
    ends = [*starts[1:], steps]
    return torch.cat(
        [
            change.expand(end - start, *change.shape)
            for change, start, end in zip(earned, starts, ends, strict=True)
        ]
    )


def side_by_side(steps: Sequence[Tensor]) -> Tensor:
    """Maps [S, b, h, w] of several rollouts in one; fewer steps are filled up with zeros."""
    longest = max(len(part) for part in steps)
    return torch.cat(
        [torch.cat([p, p.new_zeros((longest - len(p), *p.shape[1:]))]) for p in steps], dim=1
    )
