"""What changed between two pictures made from the same noise: how much, where, and as a heatmap."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .nearby import largest_within
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

BAND = 16
"""Pixels around a marked area that count as neither side: two latent pixels, the VAE's reach."""

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


@dataclass(frozen=True, slots=True)
class AreaChange:
    """Mean absolute change, 0..1, where a picture was marked and elsewhere; None: no such place."""

    inside: float | None
    outside: float | None


def change_by_area(changes: Tensor, marked: Tensor, band: int = BAND) -> AreaChange:
    """How much changed on marked pixels, and beyond `band` pixels around them.

    changes: [H, W] from `difference`. marked: bool [h, w], resized to the changes.
    """
    size = (int(changes.shape[0]), int(changes.shape[1]))
    inside = F.interpolate(marked[None, None].float(), size)
    near = largest_within(inside[0], band)
    return AreaChange(_mean(changes, inside[0, 0] > 0.0), _mean(changes, near[0] == 0.0))


def _mean(changes: Tensor, where: Tensor) -> float | None:
    return float(changes[where].mean()) if bool(where.any()) else None


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
