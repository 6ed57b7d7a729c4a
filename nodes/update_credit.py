"""What the update needs to credit each sampling step with its own part."""

from collections.abc import Sequence

from torch import Tensor

from ..pxpo_core.backends.comfy.rollout import Rollout
from ..pxpo_core.reward import PixelReward
from ..pxpo_core.stepwise import predictions
from ..pxpo_core.update import UpdateConfig

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
