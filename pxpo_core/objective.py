"""The losses of one transition. All share one reduction: the mean over batch, channels and pixels.

Advantages are per pixel [B, h, w]; predictions and noises are [B, C, h, w].
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from .rollout import Process
from .transition import Step, eps_weight

StepWeighting = Literal["uniform", "exact", "denoised"]

LOG_RATIO_LIMIT = 10.0
DUAL_CLIP = 3.0
TRUST_REGION = 1e-4


def step_weights(steps: Sequence[Step], weighting: StepWeighting = "uniform") -> tuple[float, ...]:
    """The factor on each step's log-prob.

    "exact": 1, the policy gradient as it is; one late step then holds most of it. "uniform": every
    step pulls on the predicted noise with the schedule's RMS weight, a per-step preconditioner.
    "denoised": it pulls on the denoised prediction with that weight, so that late steps, which
    decide little, count little.
    """
    if weighting == "exact":
        return tuple(1.0 for _ in steps)
    on_noise = [eps_weight(step) for step in steps]
    finite = [w for w in on_noise if math.isfinite(w)]
    if not finite:
        return tuple(1.0 for _ in steps)
    rms = math.sqrt(sum(w * w for w in finite) / len(finite))
    if weighting == "uniform":
        return tuple(rms / w for w in on_noise)
    return tuple(rms * step.std / step.gain for step in steps)


def stored_noise_loss(
    denoised: Tensor, z: Tensor, advantage: Tensor, step: Step, weight: float = 1.0
) -> Tensor:
    """-mean A (k / std) z D: the policy gradient at ratio 1, linear in the prediction D.

    The mean is linear in D, so grad log p = (k / std) z grad D with the stored z: no ratio, no old
    log-prob, and no rounding of stored latents enters.
    """
    coefficient = weight * step.gain / step.std
    return -(advantage[:, None] * (coefficient * z) * denoised).mean()


def log_ratio(mean_new: Tensor, mean_old: Tensor, z: Tensor, std: float) -> Tensor:
    """Per-pixel log p_new - log p_old, mean over channels: [B, h, w], clamped to +-10.

    With x_s = mean_old + std z; exactly 0 where the means are equal.
    """
    drift = (mean_new - mean_old) / std
    return (drift * (z - 0.5 * drift)).mean(dim=1).clamp(-LOG_RATIO_LIMIT, LOG_RATIO_LIMIT)


def clip_range(log_ratio_map: Tensor) -> float:
    """DDPO's 1e-4, made for a mean over all pixels, carried over to single pixels."""
    return 1e-4 * math.sqrt(log_ratio_map.shape[-2] * log_ratio_map.shape[-1])


def ratio_loss(
    log_ratios: Tensor,
    advantage: Tensor,
    clip: float,
    weight: float = 1.0,
    trusted: Tensor | None = None,
) -> Tensor:
    """Clipped surrogate per pixel (Schulman et al. 2017, eq. 7) with a dual clip for A < 0.

    log_ratios, advantage: [B, h, w]. trusted: [B, h, w] bool, False = no gradient there.
    """
    ratio = log_ratios.exp()
    surrogate = torch.minimum(advantage * ratio, advantage * ratio.clamp(1.0 - clip, 1.0 + clip))
    surrogate = torch.where(
        advantage < 0, torch.maximum(surrogate, DUAL_CLIP * advantage), surrogate
    )
    if trusted is not None:
        surrogate = torch.where(trusted, surrogate, surrogate.detach())
    return -weight * surrogate.mean()


def inside_trust_region(
    denoised: Tensor, denoised_old: Tensor, log_ratios: Tensor, advantage: Tensor, step: Step
) -> Tensor:
    """False where the predicted noise has moved too far and the step would move it further.

    Bound: mean over channels of (eps - eps_old)^2 / 2 <= 1e-4. Returns [B, h, w] bool.
    """
    eps_change = (denoised - denoised_old) * (step.a_t / step.sigma_t)
    far = eps_change.square().mean(dim=1) / 2.0 > TRUST_REGION
    outward = advantage.sign() * (log_ratios.exp() - 1.0) > 0.0
    return ~(far & outward)


def matching_loss(
    denoised: Tensor,
    denoised_old: Tensor,
    x_0: Tensor,
    advantage: Tensor,
    step: Step,
    hold: float = 1.0,
) -> Tensor:
    """Forward-process objective: towards x_0 where A > 0, away from it where A < 0, per pixel.

    The closed form of DiffusionNFT (arXiv 2509.16117, beta 1) with A = 2 r - 1 per pixel: its
    quadratic term keeps the prediction near the old one, so that a dislike stays bounded, and what
    little credit there is at low noise moves little. hold: its weight. At the first step
    D = D_old. A level's weight lets its residual, of the size of its noise, count alike.
    """
    residual, move = denoised_old - x_0, denoised - denoised_old
    pull = advantage[:, None] * residual * move + 0.5 * hold * move.square()
    return step.a_t / step.sigma_t * pull.mean()


def drift_weight(step: Step, weight: float, process: Process) -> float:
    """What a change of the prediction D counts for: log-prob units, or those of `matching_loss`."""
    if process == "forward":
        return math.sqrt(step.a_t / step.sigma_t)
    return weight * step.gain / step.std


def anchor_loss(
    denoised: Tensor, reference: Tensor, weight: float, where: Tensor | None = None
) -> Tensor:
    """KL(policy || base) of one transition per element, with the step weight squared.

    weight: see `drift_weight`; for uniform weights this is the schedule's mean-square weight times
    |eps - eps_ref|^2 / 2. where: [B, h, w] 0..1, how hard to hold each pixel, None: all; the
    mean is over all pixels either way.
    """
    square = (weight * (denoised - reference)).square()
    if where is not None:
        square = where[:, None].to(square) * square
    return 0.5 * square.mean()
