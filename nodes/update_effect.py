"""What a round changed, measured before it is written; the round is written whatever happens."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from comfy.model_management import InterruptProcessingException
from comfy_api.latest import ui

from ..pxpo_core.backends.comfy.effect import before_and_after
from ..pxpo_core.backends.comfy.rollout import Rollout
from ..pxpo_core.difference import AreaChange, change_by_area, difference
from ..pxpo_core.lora import Policy
from ..pxpo_core.metrics import most_marked
from ..pxpo_core.reward import PixelReward
from .progress import Progress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Effect:
    """metrics: for the round's history. shown: for the slider on the node. text: for the person.

    stopped: the interrupt that came meanwhile, to be raised once the round is written.
    """

    metrics: dict[str, Any]
    shown: dict[str, Any] | None = None
    text: str = ""
    stopped: BaseException | None = None


def measure_effect(
    rollouts: Sequence[Rollout],
    rewards: Sequence[PixelReward],
    policy: Policy,
    vae: Any,
    node_id: str | None,
) -> Effect:
    """Sample the round's most marked picture again with the new policy. Raises nothing.

    Finished pictures have no path that could be taken again: nothing is measured for them.
    """
    if rollouts[0].trajectory.process == "forward":
        return Effect({})
    try:
        return _measure(rollouts, rewards, policy, vae, node_id)
    except InterruptProcessingException as stopped:
        return Effect({}, stopped=stopped)
    except Exception as error:  # whatever a VAE of another kind raises: the round counts more
        logger.warning("The change made by the round was not measured.", exc_info=True)
        return Effect({}, text=f" The change could not be measured: {str(error)[:200]}")


def _measure(
    rollouts: Sequence[Rollout],
    rewards: Sequence[PixelReward],
    policy: Policy,
    vae: Any,
    node_id: str | None,
) -> Effect:
    maps = torch.cat([reward.map for reward in rewards])
    index = most_marked(maps, torch.cat([reward.reviewed for reward in rewards]))
    places = [(rollout, row) for rollout in rollouts for row in range(rollout.trajectory.batch)]
    rollout, row = places[index]
    total = len(rollout.trajectory.sigmas) - 1
    progress = Progress(node_id, "Measuring the change", total)
    latent = before_and_after(
        rollout, row, policy, lambda step, _denoised, _x: progress(step + 1, total)
    )
    pictures: torch.Tensor = vae.decode(latent)
    pictures = pictures.reshape(-1, *pictures.shape[-3:])
    change = change_by_area(difference(pictures[:1], pictures[1:])[0], maps[index] != 0.0)
    before, after = ui.PreviewImage(pictures).as_dict()["images"]
    metrics: dict[str, Any] = {"change_picture": index + 1}
    if change.inside is not None:
        metrics["change_inside"] = change.inside
    if change.outside is not None:
        metrics["change_outside"] = change.outside
    shown = {"picture": index + 1, "before": before, "after": after}
    return Effect(metrics, shown, _words(index + 1, change))


def _words(number: int, change: AreaChange) -> str:
    parts = [
        f"{100.0 * value:.1f} % {where}"
        for value, where in ((change.inside, "where marked"), (change.outside, "elsewhere"))
        if value is not None
    ]
    return f" Picture {number} with the same noise changed by {', '.join(parts)}."
