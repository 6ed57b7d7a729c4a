"""What changed between two pictures made from the same noise, as a heatmap."""

import torch
from torch import Tensor

from .reward import LUMINANCE, check_images

STOPS = (
    (0.05, 0.04, 0.10),
    (0.26, 0.11, 0.43),
    (0.71, 0.19, 0.42),
    (0.97, 0.52, 0.20),
    (1.00, 0.93, 0.62),
)
"""Colours from no change to the largest change."""

SMALLEST_SCALE = 0.02
"""Differences below this are not blown up: they are the rounding of the arithmetic."""

_TOP = 0.995
_RELIEF = 0.16


def difference(before: Tensor, after: Tensor) -> Tensor:
    """Mean absolute change over the colour channels: [B, H, W] in 0..1, for images [B, H, W, 3]."""
    before, after = check_images(before).cpu(), check_images(after).cpu()
    if before.shape != after.shape:
        raise ValueError(
            f"Pictures of different sizes cannot be compared: {list(before.shape)} and "
            f"{list(after.shape)}."
        )
    return (after - before).abs().mean(dim=-1)


def difference_scale(changes: Tensor) -> float:
    """The change shown in the brightest colour: nearly the largest, so one pixel cannot rule."""
    flat = changes.flatten()
    rank = max(1, round(_TOP * flat.numel()))
    return max(float(flat.kthvalue(rank).values), SMALLEST_SCALE)


def difference_heatmap(before: Tensor, changes: Tensor, scale: float) -> Tensor:
    """[B, H, W, 3] in 0..1: changes [B, H, W] in colour, the picture a faint relief below it."""
    before = check_images(before).cpu()
    strength = (changes / scale).clamp(0.0, 1.0)
    luminance = before @ before.new_tensor(LUMINANCE)
    relief = (_RELIEF * luminance * (1.0 - strength) ** 2)[..., None]
    return (ramp(strength) + relief).clamp(0.0, 1.0)


def ramp(strength: Tensor) -> Tensor:
    """Colours [..., 3] for strengths in 0..1."""
    stops = torch.tensor(STOPS)
    position = strength.clamp(0.0, 1.0) * (len(STOPS) - 1)
    lower = position.floor().long().clamp(max=len(STOPS) - 2)
    share = (position - lower)[..., None]
    return stops[lower] * (1.0 - share) + stops[lower + 1] * share
