"""Does a picture show a face: two eyes and a mouth where they belong, by the judge's labels."""

from __future__ import annotations

import torch
from torch import Tensor

from .judge import CLASSES

EYE_AREA = (0.0012, 0.03)
"""One eye's share of the picture; drawn eyes take 0.6 to 1.2 %."""

MOUTH_AREA = (0.0006, 0.03)
EYE_DISTANCE = (0.10, 0.30)
"""Between the eyes' centres, in picture widths; drawn ones are 0.155 to 0.225 apart."""


def valid_faces(labels: Tensor) -> Tensor:
    """labels: [B, h, w] over CLASSES. Returns [B] bool.

    Eye pixels are split at their own mean column; both halves must have an eye's area, their
    centres an eye distance at about one height, and the mouth must lie below and between.
    """
    eyes, mouth = labels == CLASSES.index("eye"), labels == CLASSES.index("mouth")
    height, width = labels.shape[1:]
    y = (torch.arange(height) + 0.5)[:, None] / height
    x = (torch.arange(width) + 0.5)[None, :] / width
    middle = _mean(eyes, x)
    left = eyes & (x < middle[:, None, None])
    right = eyes & ~left
    lx, ly, rx, ry = _mean(left, x), _mean(left, y), _mean(right, x), _mean(right, y)
    mx, my = _mean(mouth, x), _mean(mouth, y)
    distance = rx - lx
    return (
        _within(_area(left), EYE_AREA)
        & _within(_area(right), EYE_AREA)
        & _within(_area(mouth), MOUTH_AREA)
        & _within(distance, EYE_DISTANCE)
        & ((ly - ry).abs() < 0.06)
        & (my > torch.maximum(ly, ry) + 0.05)
        & (mx > lx - 0.03)
        & (mx < rx + 0.03)
    )


def _area(mask: Tensor) -> Tensor:
    return mask.float().mean(dim=(1, 2))


def _mean(mask: Tensor, coordinate: Tensor) -> Tensor:
    """Mean coordinate of each mask: [B]; 0 where the mask is empty."""
    weight = mask.float()
    return (weight * coordinate).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1.0)


def _within(values: Tensor, limits: tuple[float, float]) -> Tensor:
    return (values >= limits[0]) & (values <= limits[1])
