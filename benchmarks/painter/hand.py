"""Strokes that cover a region roughly, as a hand would: back and forth from top to bottom."""

from __future__ import annotations

import numpy as np

Stroke = list[tuple[float, float]]

ROW_STEP = 1.3  # of the brush's radius: neighbouring rows overlap
SHORTEST = 0.8  # of the radius: smaller bits are left out


def strokes(region: np.ndarray, radius: float) -> list[Stroke]:
    """Horizontal strokes through a region, bool [H, W], for a brush of that radius in pixels."""
    found: list[Stroke] = []
    rows = np.arange(radius * 0.6, region.shape[0], radius * ROW_STEP)
    for number, y in enumerate(rows):
        for left, right in runs(region[int(y)]):
            if right - left < SHORTEST * radius:
                continue
            inset = min(radius * 0.7, (right - left) / 2)
            stroke = [(left + inset, float(y)), (right - inset, float(y))]
            found.append(stroke[::-1] if number % 2 else stroke)
    return found


def runs(row: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
