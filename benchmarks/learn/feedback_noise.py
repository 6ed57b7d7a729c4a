"""People err in whole regions, not pixels: four ways to spoil a share of the feedback."""

from __future__ import annotations

import torch
from torch import Tensor

from pxpo_core.nearby import largest_within

KINDS = ("none", "flip", "shift", "swap", "dilate")
REGION = 64
"""Side of a region that is flipped as a whole, in pixels."""

SHIFT = 16
DILATION = 16


def spoil(maps: Tensor, kind: str, share: float, generator: torch.Generator) -> Tensor:
    """Reward maps [B, H, W] with about `share` of them (or of their regions) spoilt.

    flip: the sign of whole regions. shift: a map lies 16 px off, in one of four directions. swap:
    a map is another picture's. dilate: marks are 16 px too wide, the strongest one wins.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}.")
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must lie between 0 and 1, got {share}.")
    if kind == "none" or share == 0.0:
        return maps
    if kind == "flip":
        return _flip(maps, share, generator)
    chosen = torch.rand(len(maps), generator=generator) < share
    result = maps.clone()
    if kind == "swap":
        result[chosen] = maps.roll(1, dims=0)[chosen]
        return result
    for i in chosen.nonzero().flatten().tolist():
        result[i] = _shift(maps[i], generator) if kind == "shift" else _dilate(maps[i])
    return result


def _flip(maps: Tensor, share: float, generator: torch.Generator) -> Tensor:
    batch, height, width = maps.shape
    rows, columns = -(-height // REGION), -(-width // REGION)
    flipped = torch.rand(batch, rows, columns, generator=generator) < share
    signs = 1.0 - 2.0 * flipped.to(maps)
    signs = signs.repeat_interleave(REGION, dim=1).repeat_interleave(REGION, dim=2)
    return maps * signs[:, :height, :width]


def _shift(one: Tensor, generator: torch.Generator) -> Tensor:
    """[H, W] moved by SHIFT pixels; what comes in repeats the border."""
    direction = int(torch.randint(4, (), generator=generator))
    dy, dx = ((SHIFT, 0), (-SHIFT, 0), (0, SHIFT), (0, -SHIFT))[direction]
    rows = (torch.arange(one.shape[0]) - dy).clamp(0, one.shape[0] - 1)
    columns = (torch.arange(one.shape[1]) - dx).clamp(0, one.shape[1] - 1)
    return one[rows][:, columns]


def _dilate(one: Tensor) -> Tensor:
    """[H, W] where every pixel takes the strongest mark within DILATION."""
    high, down = largest_within(torch.stack([one, -one]), DILATION)
    low = -down
    return torch.where(high.abs() > low.abs(), high, low)
