"""The one stochastic DDIM step for every model family, in sigma space.

x_t = a_t x_0 + sigma_t noise, with a = 1 for variance-exploding parametrisations of VP models
(eps, v, EDM) and a = 1 - sigma for flow models. DDIM: Song et al. 2021, eq. 12 and 16.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Family = Literal["vp", "flow"]


def signal_level(family: Family, sigma: float) -> float:
    """a(sigma): how much of the clean latent is left at noise level sigma."""
    return 1.0 - sigma if family == "flow" else 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """Coefficients of one transition x_t -> x_s; everything in it is a plain float.

    mean = a_s D + direction (x_t - a_t D) / sigma_t,  x_s = mean + std z,  z ~ N(0, 1).
    """

    sigma_t: float
    sigma_s: float
    a_t: float
    a_s: float
    direction: float
    std: float

    @property
    def gain(self) -> float:
        """d mean / d D, the k of the stored-noise form."""
        return self.a_s - self.direction * self.a_t / self.sigma_t

    @property
    def is_stochastic(self) -> bool:
        """Whether the step has a density; the last step (sigma_s = 0) never has."""
        return self.std > 0.0

    def mean(self, x_t: Tensor, denoised: Tensor) -> Tensor:
        """Mean of x_s given x_t and the prediction D, all of one shape."""
        eps = (x_t - self.a_t * denoised) / self.sigma_t
        return self.a_s * denoised + self.direction * eps


def make_step(
    family: Family, sigma_t: float, sigma_s: float, eta: float, noise_scale: float = 1.0
) -> Step:
    """Coefficients of the DDIM step from sigma_t to sigma_s < sigma_t.

    eta: 0 = deterministic (the host's euler), 1 = the posterior q(x_s | x_t, x_0) (DDPM).
    noise_scale: the factor some flow models put on fresh noise; the mean keeps the unscaled std.
    Raises ValueError when the pair does not descend or eta leaves [0, 1].
    """
    if not sigma_t > sigma_s >= 0.0:
        raise ValueError(f"sigmas must fall towards 0, got a step from {sigma_t} to {sigma_s}.")
    if not 0.0 <= eta <= 1.0:
        raise ValueError(f"eta must lie in [0, 1], got {eta}.")
    a_t, a_s = signal_level(family, sigma_t), signal_level(family, sigma_s)
    variance = sigma_t**2 - (a_t / a_s) ** 2 * sigma_s**2
    # Levels near 0 lose digits, their squares more: either part may exceed sigma_s by rounding.
    std = min(eta * math.sqrt(max(variance, 0.0)) * sigma_s / sigma_t, sigma_s)
    direction = min(math.sqrt(max(sigma_s**2 - std**2, 0.0)), sigma_s)
    return Step(sigma_t, sigma_s, a_t, a_s, direction, noise_scale * std)


def make_steps(
    family: Family, sigmas: Sequence[float], eta: float, noise_scale: float = 1.0
) -> tuple[Step, ...]:
    """The transitions along a schedule of T + 1 falling sigmas."""
    return tuple(
        make_step(family, sigma_t, sigma_s, eta, noise_scale)
        for sigma_t, sigma_s in itertools.pairwise(sigmas)
    )


def log_prob(x_s: Tensor, mean: Tensor, std: float) -> Tensor:
    """Per-pixel log-density of one transition, summed over channels.

    x_s, mean: [B, C, h, w]. Returns [B, h, w], in nats. VE and VP values differ by a constant. What
    `stored_noise_loss` and `ratio_loss` are the gradient of; they do not need its value.
    """
    per_element = -((x_s - mean) ** 2) / (2.0 * std**2) - math.log(std)
    return (per_element - 0.5 * math.log(2.0 * math.pi)).sum(dim=1)


def eps_weight(step: Step) -> float:
    """|d mean / d eps| / std: how strongly a step's log-prob pulls on the predicted noise.

    With eta = 1 this is sqrt(SNR_s / SNR_t - 1), SNR = (a / sigma)^2; infinite where a_t = 0.
    """
    if step.a_t == 0.0:
        return math.inf
    return step.gain / step.std * step.sigma_t / step.a_t


def as_schedule(sigmas: Tensor) -> tuple[float, ...]:
    """A 1-D tensor of sigmas as plain floats; raises ValueError when they do not fall."""
    values = tuple(float(s) for s in sigmas.detach().to(torch.float64).cpu())
    if len(values) < 2 or any(not a > b for a, b in itertools.pairwise(values)):
        raise ValueError(f"sigmas must fall from step to step, got {values}.")
    return values
