"""What an update tells the person, the chart and the run's history."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ..pxpo_core.backends.comfy.drift import rollouts_drift
from ..pxpo_core.backends.comfy.kept_rollouts import content_key
from ..pxpo_core.backends.comfy.rollout import Rollout
from ..pxpo_core.credit import Advantage
from ..pxpo_core.health import picture_signs
from ..pxpo_core.metrics import RewardSummary
from ..pxpo_core.reward import PixelReward
from ..pxpo_core.round import reward_name
from ..pxpo_core.run import RunHead
from ..pxpo_core.update import UpdateConfig

LITTLE_AGREEMENT = 0.5
LITTLE_SIGNAL = 0.25

CHART = (
    *("round", "reward_mean", "reward_sd", "marked_area", "images", "marked_images"),
    *("change_inside", "change_outside"),
)
"""What the node's chart draws of every round."""


def settings(config: UpdateConfig, rollout: Rollout) -> dict[str, Any]:
    """What made the round, as plain JSON."""
    finite = config.credit_radius < float("inf")
    return {
        "learning_rate": config.learning_rate,
        "train_steps": config.train_steps,
        "steps_per_rollout": config.steps_per_rollout,
        "step_weighting": config.step_weighting,
        "credit_radius": config.credit_radius if finite else "infinite",
        "stepwise": config.stepwise,
        "objective": config.objective,
        "anchor": config.anchor,
        "anchor_region": config.anchor_region,
        "cfg": rollout.job.cfg,
        "seed": rollout.job.seed,
        "eta": rollout.trajectory.eta,
        "sigmas": list(rollout.trajectory.sigmas),
    }


def round_signs(
    rollouts: Sequence[Rollout], rewards: Sequence[PixelReward], signal: float
) -> dict[str, Any]:
    """What the round's pictures look like, to be compared with the run's other rounds.

    signal: rms of the advantage before scaling.
    """
    signs = picture_signs(torch.cat([reward.pictures for reward in rewards]))
    job = rollouts[0].job
    prompt = content_key(job.positive, job.negative, job.cfg)
    drift = rollouts_drift(rollouts)
    return {
        **signs.to_dict(),
        "signal": signal,
        "reward": reward_name(rewards),
        "drift": drift,
        "prompt": prompt,
    }


def chart(history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the node's chart draws of every round."""
    return [{key: entry[key] for key in CHART if key in entry} for entry in history]


def loss_map(history: Sequence[float]) -> dict[str, list[float]]:
    """Minus the mean reward of every round; the host's plot needs two different values."""
    losses = [-value for value in history] or [0.0]
    if len(set(losses)) < 2:
        losses.append(losses[-1] - 1e-6 * max(1.0, abs(losses[-1])))
    return {"loss": losses}


def memory_text(wanted: int, used: int) -> str:
    """Said when memory ran out on the way."""
    if used >= wanted:
        return ""
    return (
        f" Memory ran out on the way, so only {used} at once were trained: set micro_batch to "
        f"{used} to save the time of trying."
    )


def success_text(head: RunHead, summary: RewardSummary, history: Sequence[float]) -> str:
    text = (
        f"Run {head.name}, round {head.round}: mean reward {summary.mean:.3f} ± {summary.sd:.3f} "
        f"over {summary.images} pictures."
    )
    if len(history) > 1:
        text += f" Since round 1: {history[-1] - history[0]:+.3f}."
    return text


def agreement_text(advantage: Advantage) -> str:
    """Said when rounds contradict each other."""
    if advantage.opposite:
        return (
            " You now say the opposite of earlier rounds, so only this one counts from here on. "
            "What the model learned from them wears off with the next rounds; Go Back in Run "
            "undoes it at once."
        )
    if advantage.agreement >= LITTLE_AGREEMENT:
        return ""
    return (
        " Careful: in places that look alike, your likes and dislikes contradict those of earlier "
        f"rounds, so the model made {advantage.agreement:.0%} of a full step. It learns faster "
        "once your marks agree."
    )


def share_text(advantage: Advantage) -> str:
    """Said when a round's rewards differ much less than those its steps are scaled by."""
    if advantage.relative >= LITTLE_SIGNAL:
        return ""
    return (
        " This round's rewards differ less than those of the run's first round, so the model made "
        f"{advantage.relative:.0%} of a full step."
    )


def stopped_text(head: RunHead, taken: int, wanted: int) -> str:
    """For an interrupt after which the round was kept."""
    if taken == wanted:
        return f"Interrupted. Run {head.name} keeps round {head.round}."
    return (
        f"Interrupted after {taken} of {wanted} optimizer steps: run {head.name} keeps them as "
        f"round {head.round}."
    )
