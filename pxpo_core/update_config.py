"""The settings of one round's training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from .objective import StepWeighting

AnchorRegion = Literal["everywhere", "unmarked"]
Objective = Literal["path", "pictures"]

USUAL_STEPS: Mapping[Objective, Mapping[str, int]] = {
    "pictures": {"train_steps": 4, "steps_per_rollout": 2},
    "path": {"train_steps": 8, "steps_per_rollout": 1},
}
"""As much work either way. A second look at finished pictures halves how many are needed; on the
path its ratios are those of single steps, whose credit is noisy: hair took twice as many."""


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    """How a rollout becomes a gradient step; raises ValueError naming what is out of range.

    train_steps: K, how many of the T stochastic steps are trained. steps_per_rollout: optimizer
    steps; on the path, more than 1 needs the ratio form from the second step on. 0 of either is
    what suits the objective, see USUAL_STEPS, and is replaced by it. anchor: weight of the KL to
    the base model, anchor_region: on all pixels or only those without feedback nearby, see
    `credit.Advantage`.
    credit_radius: see `credit`; an infinite one also pools the ratio, as in DDPO. credit_growth:
    further radius per unit of noise, in latent pixels; each step has sigma_t / a_t units.
    stepwise: credit each step with what it changed, see `stepwise`. objective "path" makes the
    steps that led to good pixels likelier, "pictures" good pixels of the finished pictures at
    fresh noise, see `objective.matching_loss`; whoever makes the trajectories has to follow it.
    """

    learning_rate: float = 1e-3
    train_steps: int = 0
    steps_per_rollout: int = 0
    step_weighting: StepWeighting = "denoised"
    credit_radius: float = 0.0
    credit_growth: float = 0.0
    stepwise: bool = True
    anchor: float = 1.0
    anchor_region: AnchorRegion = "unmarked"
    micro_batch: int = 8
    max_grad_norm: float = 1.0
    objective: Objective = "pictures"

    def __post_init__(self) -> None:
        for name, number in USUAL_STEPS.get(self.objective, {}).items():
            if getattr(self, name) == 0:
                object.__setattr__(self, name, number)
        for name in ("learning_rate", "max_grad_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be a positive number, got {value}.")
        for name in ("train_steps", "steps_per_rollout", "micro_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not (math.isfinite(self.anchor) and self.anchor >= 0.0):
            raise ValueError(f"anchor must be 0 or more, got {self.anchor}.")
        if math.isnan(self.credit_radius) or self.credit_radius < 0.0:
            raise ValueError(f"credit_radius must be 0 or more, got {self.credit_radius}.")
        if not (math.isfinite(self.credit_growth) and self.credit_growth >= 0.0):
            raise ValueError(f"credit_growth must be 0 or more, got {self.credit_growth}.")
        if self.anchor_region not in ("everywhere", "unmarked"):
            raise ValueError(
                f"anchor_region is everywhere or unmarked, got {self.anchor_region!r}."
            )
        if self.objective not in get_args(Objective):
            raise ValueError(f"objective is path or pictures, got {self.objective!r}.")
        if self.step_weighting not in get_args(StepWeighting):
            raise ValueError(
                f"step_weighting is {', '.join(get_args(StepWeighting))}; got "
                f"{self.step_weighting!r}."
            )
