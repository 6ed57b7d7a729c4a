"""What is compared: each method is a few settings of one update."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from pxpo_core.objective import StepWeighting
from pxpo_core.update_config import AnchorRegion, Objective, UpdateConfig

from .feedback_noise import KINDS

Baseline = Literal["none", "group", "ddpo"]
Stepwise = Literal["task", "fitted", "off"]
ALL_STEPS = 1000


@dataclass(frozen=True)
class Method:
    """One way to learn from a round; the learning rate and the batch are not part of it.

    baseline: "none" takes the reward as it is, "group" is the per-pixel leave-one-out mean per
    prompt with the run's first scale, "ddpo" the per-image (R - mean) / std of the prompt's last
    images. objective: "path" or "pictures", as in the update. target_modules: which layers get a
    LoRA. stepwise: what credits each step with its own part: the task's reward of predictions where
    it needs that, else the fitted value; always the fitted value; or nothing, as in DDPO and PXPO.
    feedback, spoilt: how and how much of the feedback is wrong, see `feedback_noise`. auto_stop:
    stop when the pictures fall apart, as the Update node does.
    """

    name: str
    says: str
    credit_radius: float = 0.0
    credit_growth: float = 0.0
    stepwise: Stepwise = "task"
    step_weighting: StepWeighting = "denoised"
    train_steps: int = 8
    steps_per_rollout: int = 1
    baseline: Baseline = "group"
    anchor: float = 0.0
    anchor_region: AnchorRegion = "everywhere"
    objective: Objective = "path"
    target_modules: str = "all layers"
    feedback: str = "none"
    spoilt: float = 0.0
    auto_stop: bool = False

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
    "default",
    "our defaults: per pixel, credit by step, weights on the denoised prediction, 8 of 16",
)

METHODS = {
    method.name: method
    for method in (
        Method(
            "ddpo",
            "published DDPO: image-mean log-prob, exact weights, per-prompt (R - mean) / std, "
            "every step trained",
            credit_radius=math.inf,
            stepwise="off",
            step_weighting="exact",
            train_steps=ALL_STEPS,
            baseline="ddpo",
        ),
        replace(
            _DEFAULT,
            name="ddpo_improved",
            says="DDPO with everything of the default but the pixels: one credit per image",
            credit_radius=math.inf,
        ),
        Method(
            "pxpo",
            "the paper's formula: each pixel's own reward and log-prob, exact weights, every step, "
            "no baseline",
            stepwise="off",
            step_weighting="exact",
            train_steps=ALL_STEPS,
            baseline="none",
        ),
        _DEFAULT,
        replace(
            _DEFAULT,
            name="whole_path",
            says="default, every step credited with the finished picture",
            stepwise="off",
        ),
        replace(
            _DEFAULT,
            name="fitted",
            says="default, credit by step from the fitted value instead of judged predictions",
            stepwise="fitted",
        ),
        replace(
            _DEFAULT,
            name="earlier",
            says="the defaults before credit by step: whole path, uniform weights, 4 of 16 steps",
            stepwise="off",
            step_weighting="uniform",
            train_steps=4,
        ),
        replace(
            _DEFAULT,
            name="weights_uniform",
            says="default with weights on the predicted noise",
            step_weighting="uniform",
        ),
        replace(
            _DEFAULT,
            name="weights_exact",
            says="default with exact weights",
            step_weighting="exact",
        ),
        replace(_DEFAULT, name="baseline_none", says="default without a baseline", baseline="none"),
        replace(
            _DEFAULT, name="radius_1", says="default with a credit radius of 1", credit_radius=1.0
        ),
        replace(
            _DEFAULT, name="radius_4", says="default with a credit radius of 4", credit_radius=4.0
        ),
        replace(
            _DEFAULT,
            name="radius_grows",
            says="default with a credit radius of 0.25 sigma latent pixels at each step",
            credit_growth=0.25,
        ),
        replace(_DEFAULT, name="auto_stop", says="default, stopped as in the node", auto_stop=True),
        replace(_DEFAULT, name="steps_1", says="default, 1 of 16 steps trained", train_steps=1),
        replace(_DEFAULT, name="steps_4", says="default, 4 of 16 steps trained", train_steps=4),
        replace(
            _DEFAULT, name="steps_16", says="default, every step trained", train_steps=ALL_STEPS
        ),
        replace(
            _DEFAULT,
            name="two_updates",
            says="default, two optimizer steps per rollout",
            steps_per_rollout=2,
        ),
        replace(
            _DEFAULT,
            name="anchor",
            says="default with an anchor to the base model of 0.01",
            anchor=0.01,
        ),
        replace(
            _DEFAULT,
            name="anchor_unmarked",
            says="default with an anchor of 0.01 on pixels without feedback only",
            anchor=0.01,
            anchor_region="unmarked",
        ),
        replace(
            _DEFAULT,
            name="forward",
            says="forward-process objective on finished pictures, credit beyond what was foreseen",
            objective="pictures",
            stepwise="fitted",
        ),
        replace(
            _DEFAULT,
            name="forward_plain",
            says="forward-process objective, credit without a foresight (DiffusionNFT per pixel)",
            objective="pictures",
            stepwise="off",
        ),
        replace(
            _DEFAULT,
            name="attention_only",
            says="default, LoRA in the attention layers only",
            target_modules="attention",
        ),
    )
}

NOISE_LEVELS = (0.10, 0.25, 0.50)
METHODS |= {
    f"{kind}_{round(100 * share)}": replace(
        _DEFAULT,
        name=f"{kind}_{round(100 * share)}",
        says=f"default with {share:.0%} of the feedback spoilt: {kind}",
        feedback=kind,
        spoilt=share,
    )
    for kind in KINDS
    if kind != "none"
    for share in NOISE_LEVELS
}
ANCHORS = (0.001, 0.003, 0.03, 0.1, 0.3)
METHODS |= {
    f"anchor_unmarked_{anchor:g}": replace(
        METHODS["anchor_unmarked"],
        name=f"anchor_unmarked_{anchor:g}",
        says=f"default with an anchor of {anchor:g} on pixels without feedback only",
        anchor=anchor,
    )
    for anchor in ANCHORS
}
