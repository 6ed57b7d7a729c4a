"""A simulated person: marks a part with a coarse brush, a little off, and misses some of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BRUSH = 24
"""Diameter of a dab, in pixels."""

COVERED = 0.35
"""A dab is set where at least this share of it lies on the part ..."""

MISSED = 0.15
"""... unless it is forgotten."""

UNSTEADY = 6
"""How far all dabs of a picture may lie off, in pixels."""


def paint(mask: Tensor, generator: torch.Generator) -> Tensor:
    """Brush marks [B, H, W] in {0, 1} for a part's exact mask [B, H, W]."""
    batch, height, width = mask.shape
    cell = BRUSH // 2
    share = F.avg_pool2d(mask[:, None].float(), BRUSH, cell, BRUSH // 2)[:, 0]
    forgotten = torch.rand(share.shape, generator=generator) < MISSED
    dabs = ((share >= COVERED) & ~forgotten).float()
    marks = dabs.repeat_interleave(cell, dim=1).repeat_interleave(cell, dim=2)
    result = torch.zeros(batch, height, width)
    off = torch.randint(-UNSTEADY, UNSTEADY + 1, (batch, 2), generator=generator).tolist()
    for i, (dy, dx) in enumerate(off):
        rows = (torch.arange(height) - dy + cell // 2).clamp(0, marks.shape[1] - 1)
        columns = (torch.arange(width) - dx + cell // 2).clamp(0, marks.shape[2] - 1)
        result[i] = marks[i][rows][:, columns]
    return result
