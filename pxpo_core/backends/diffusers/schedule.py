"""Noise levels of a pipeline's scheduler in ComfyUI's sigma space, and schedules over them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from .loading import PipelineError

SMALLEST_SIGNAL = 4.8973451890853435e-08
"""Square signal level that stands for the 0 of a zero-terminal-SNR schedule, as in ComfyUI."""


def noise_levels(scheduler: Any) -> Tensor:
    """sigma of every training timestep, rising: [1000] float64.

    Raises PipelineError for a scheduler that is not one of discrete variance-preserving noise.
    """
    betas = getattr(scheduler, "betas", None)
    if not isinstance(betas, Tensor) or betas.ndim != 1:
        raise PipelineError(
            f"PXPO trains pipelines with discrete noise levels (such as DDIM or Euler schedulers), "
            f"not with a {type(scheduler).__name__}."
        )
    signal = torch.cumprod(1.0 - betas.double().cpu(), 0).clamp(min=SMALLEST_SIGNAL)
    return ((1.0 - signal) / signal).sqrt()


def nearest_timestep(levels: Tensor, sigma: float) -> int:
    """The training timestep whose noise level is nearest, by ratio."""
    return int((levels.log() - math.log(sigma)).abs().argmin())


def karras(levels: Tensor, steps: int) -> tuple[float, ...]:
    """steps + 1 sigmas from the largest level to the smallest, then 0 (Karras 2022, eq. 5)."""
    ends = [float(levels[i]) ** (1.0 / 7.0) for i in (-1, 0)]
    ramp = [i / (steps - 1) for i in range(steps)]
    return (*((ends[0] + t * (ends[1] - ends[0])) ** 7.0 for t in ramp), 0.0)


def even_timesteps(levels: Tensor, steps: int) -> tuple[float, ...]:
    """steps + 1 sigmas at evenly spaced timesteps, then 0; ComfyUI calls it "normal"."""
    logs, last = levels.log(), len(levels) - 1
    places = [last * (1.0 - i / (steps - 1)) for i in range(steps)]
    sigmas = []
    for place in places:
        low = min(int(place), last - 1)
        share = place - low
        sigmas.append(math.exp(float((1.0 - share) * logs[low] + share * logs[low + 1])))
    return (*sigmas, 0.0)


SCHEDULES: Mapping[str, Callable[[Tensor, int], tuple[float, ...]]] = {
    "karras": karras,
    "normal": even_timesteps,
}
