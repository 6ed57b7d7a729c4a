"""What an update learns from: pictures or their paths, and what each step is credited with."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from ..pxpo_core.backends.comfy.rollout import Rollout
from ..pxpo_core.reward import PixelReward
from ..pxpo_core.rollout import finished_pictures
from ..pxpo_core.stepwise import predictions
from ..pxpo_core.update import UpdateConfig
from ..pxpo_core.update_config import Objective

AUTOMATIC = "automatic"

StepCredit = tuple[list[Tensor] | None, list[Tensor] | None]
"""Predictions, and their reward maps where they were judged, of every rollout."""


def step_credit(
    rollouts: Sequence[Rollout], judged: Sequence[PixelReward] | None, config: UpdateConfig
) -> StepCredit:
    """Nothing where steps are not credited with their own part."""
    if not config.stepwise:
        return None, None
    made = [predictions(rollout.trajectory) for rollout in rollouts]
    return made, [reward.map for reward in judged] if judged else None


def objective_of(chosen: str, rollouts: Sequence[Rollout], judged: bool) -> Objective:
    """Judged predictions credit the sampling path; without them finished pictures teach as much.

    Raises ValueError where pictures are to be learned from that still hold noise.
    """
    unfinished = [r for r in rollouts if not r.trajectory.is_finished]
    if chosen == AUTOMATIC:
        return "path" if judged or unfinished else UpdateConfig().objective
    if chosen == "pictures" and unfinished:
        raise ValueError(
            f"The sampler's schedule ends at {unfinished[0].trajectory.sigmas[-1]:.3g} and not at "
            "0, so there are no finished pictures to learn from. Set objective to automatic or "
            "path, or let the schedule end at 0."
        )
    return chosen  # type: ignore[return-value]  # UpdateConfig checks it


def learned_from(rollouts: Sequence[Rollout], config: UpdateConfig) -> Sequence[Rollout]:
    """The rollouts as their objective needs them: as sampled, or their finished pictures."""
    return rollouts if config.objective == "path" else [_finished(r) for r in rollouts]


def _finished(rollout: Rollout) -> Rollout:
    assert rollout.run is not None  # checked before any work
    samples = range(rollout.trajectory.batch)
    made = finished_pictures(rollout.trajectory, rollout.job.seed, rollout.run.round, samples)
    return replace(rollout, trajectory=made)
