"""What is compared: each method is a few settings of one update."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pxpo_core.lora import ATTENTION, LoRAConfig
from pxpo_core.objective import StepWeighting
from pxpo_core.update_config import USUAL_STEPS, AnchorRegion, Objective, UpdateConfig

from .feedback_noise import KINDS

Baseline = Literal["none", "group", "ddpo"]
Stepwise = Literal["task", "fitted", "off"]
ALL_STEPS = 1000
OURS = "default"
"""What the nodes do; the others are compared with it."""
_NODES = UpdateConfig()
"""How the update node trains where nothing else is asked for."""


@dataclass(frozen=True)
class Method:
    """One way to learn from a round; the learning rate and the batch are not part of it.

    baseline: "none" takes the reward as it is, "group" is the per-pixel leave-one-out mean per
    prompt with the run's first scale, "ddpo" the per-image (R - mean) / std of the prompt's last
    images. objective: "path" or "pictures", as in the update. stepwise: what credits each step
    with its own part: on the path, the task's reward of predictions where it needs that, else the
    fitted value; always the fitted value; or nothing. target_modules: as in `LoRAConfig`.
    feedback, spoilt: how and how much of the feedback is wrong, see `feedback_noise`. auto_stop:
    stop when the pictures fall apart, as the Update node does. base: the method it is a change of.
    """

    name: str
    says: str
    credit_radius: float = _NODES.credit_radius
    credit_growth: float = _NODES.credit_growth
    stepwise: Stepwise = "task"
    step_weighting: StepWeighting = _NODES.step_weighting
    train_steps: int = _NODES.train_steps
    steps_per_rollout: int = _NODES.steps_per_rollout
    baseline: Baseline = "group"
    anchor: float = _NODES.anchor
    anchor_region: AnchorRegion = _NODES.anchor_region
    objective: Objective = _NODES.objective
    target_modules: str = LoRAConfig().target_modules
    feedback: str = "none"
    spoilt: float = 0.0
    auto_stop: bool = False
    base: str = OURS

    @property
    def judges(self) -> bool:
        """Whether the reward looks at predictions where the task needs that."""
        return self.objective == "path" and self.stepwise == "task"

    def config(self, learning_rate: float, micro_batch: int) -> UpdateConfig:
        return UpdateConfig(
            learning_rate=learning_rate,
            train_steps=self.train_steps,
            steps_per_rollout=self.steps_per_rollout,
            step_weighting=self.step_weighting,
            credit_radius=self.credit_radius,
            credit_growth=self.credit_growth,
            stepwise=self.stepwise != "off",
            anchor=self.anchor,
            anchor_region=self.anchor_region,
            micro_batch=micro_batch,
            objective=self.objective,
        )


_DEFAULT = Method(
    OURS,
    "what the nodes do: finished pictures, credit beyond what was foreseen, an anchor of 1 on "
    "pixels without feedback, and two optimizer steps per round at 4 of 16 noise levels",
)

ONE = "@one"
"""Ends the names of methods that take one optimizer step per round, at twice as many levels."""
_ONE_STEP: Mapping[str, Any] = {"steps_per_rollout": 1, "train_steps": 8}

_PATH = replace(
    _DEFAULT,
    name="path",
    says="the objective path: the sampling path, credit by step; judged where the task needs it; "
    "one optimizer step per round",
    objective="path",
    base=OURS + ONE,
    **_ONE_STEP,
)

_PUBLISHED = replace(
    _PATH, stepwise="off", step_weighting="exact", train_steps=ALL_STEPS, anchor=0.0
)

_VARIANTS = {
    # one change of the default each, and each also with one optimizer step per round
    "no_foresight": ("credit without a foresight (DiffusionNFT per pixel)", {"stepwise": "off"}),
    "baseline_none": ("no baseline", {"baseline": "none"}),
    "radius_1": ("a credit radius of 1", {"credit_radius": 1.0}),
    "radius_4": ("a credit radius of 4", {"credit_radius": 4.0}),
    "auto_stop": ("stopped as in the node", {"auto_stop": True}),
    "steps_1": ("1 of 16 noise levels trained", {"train_steps": 1}),
    "steps_8": ("8 of 16 noise levels trained", {"train_steps": 8}),
    "steps_16": ("every noise level trained", {"train_steps": ALL_STEPS}),
    "four_updates": ("four optimizer steps per rollout", {"steps_per_rollout": 4}),
    "no_anchor": ("without an anchor", {"anchor": 0.0}),
    "anchor": (
        "an anchor of 0.01 on all pixels",
        {"anchor": 0.01, "anchor_region": "everywhere"},
    ),
    "attention_only": ("LoRA in the attention layers only", {"target_modules": ATTENTION}),
}

_PATH_VARIANTS = {
    # one change of "path" each, but "earlier"
    "whole_path": ("every step credited with the finished picture", {"stepwise": "off"}),
    "path_no_anchor": ("without an anchor", {"anchor": 0.0}),
    "fitted": ("credit from the fitted value, never judged", {"stepwise": "fitted"}),
    "weights_uniform": ("weights on the predicted noise", {"step_weighting": "uniform"}),
    "weights_exact": ("exact weights", {"step_weighting": "exact"}),
    "path_two": ("two optimizer steps per rollout, at 4 of 16 steps", USUAL_STEPS["pictures"]),
    "ddpo_two": (
        "two optimizer steps per rollout, at 4 of 16 steps, and one credit per image",
        {**USUAL_STEPS["pictures"], "credit_radius": math.inf},
    ),
    "radius_grows": ("a radius of 0.25 sigma latent pixels at each step", {"credit_growth": 0.25}),
    "earlier": (
        "whole path, uniform weights, 4 of 16 steps: the first defaults",
        {"stepwise": "off", "step_weighting": "uniform", "train_steps": 4, "anchor": 0.0},
    ),
}

ANCHORS = (0.1, 0.3, 3.0, 10.0)
_ANCHORED = {
    f"anchor_unmarked_{anchor:g}": (
        f"an anchor of {anchor:g} on pixels without feedback",
        {"anchor": anchor},
    )
    for anchor in ANCHORS
}


NOISE_LEVELS = (0.10, 0.25, 0.50)
_NOISY = {
    f"{kind}_{round(100 * share)}": (
        f"{share:.0%} of the feedback spoilt: {kind}",
        {"feedback": kind, "spoilt": share},
    )
    for kind in KINDS
    if kind != "none"
    for share in NOISE_LEVELS
}


def _varied(base: Method, variants: Mapping[str, tuple[str, Mapping[str, Any]]]) -> list[Method]:
    return [
        replace(base, name=name, says=f"{base.name}, but {says}", base=base.name, **changes)
        for name, (says, changes) in variants.items()
    ]


METHODS = {
    method.name: method
    for method in (
        replace(
            _PUBLISHED,
            name="ddpo",
            says="published DDPO: image-mean log-prob, exact weights, per-prompt (R - mean) / std, "
            "every step trained",
            credit_radius=math.inf,
            baseline="ddpo",
        ),
        replace(
            _PATH,
            name="ddpo_improved",
            says="DDPO with everything of path but the pixels: one credit per image, so that no "
            "pixel is without feedback",
            credit_radius=math.inf,
            base="path",
        ),
        replace(
            _PUBLISHED,
            name="pxpo",
            says="the paper's formula: each pixel's own reward and log-prob, exact weights, every "
            "step, no baseline",
            baseline="none",
        ),
        _DEFAULT,
        _PATH,
        *_varied(_DEFAULT, {**_VARIANTS, **_ANCHORED, **_NOISY}),
        *_varied(_PATH, _PATH_VARIANTS),
    )
}

METHODS |= {
    name + ONE: replace(
        METHODS[name],
        name=name + ONE,
        says=f"{name}, but one optimizer step per round, at 8 of 16 noise levels",
        base=OURS if name == OURS else OURS + ONE,
        **_ONE_STEP,
    )
    for name in (OURS, *_VARIANTS, *_ANCHORED, *_NOISY)
    if not name.startswith(("steps_", "four_"))
}

ANCHOR_SWEEP = ("no_anchor", *_ANCHORED, OURS)
"""Methods that differ in how far they hold pixels without feedback, and in nothing else."""


def suffix(method: str) -> str:
    """What tells a method with one optimizer step per round from the one it is like."""
    return ONE if method.endswith(ONE) else ""


def in_order(table: Mapping[str, Any]) -> list[str]:
    """The methods that a table has, always in the same order."""
    return [method for method in METHODS if method in table]
