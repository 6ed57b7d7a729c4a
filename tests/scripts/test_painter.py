"""The stand-in for a person's hand covers what it should, roughly."""

from __future__ import annotations

import numpy as np

from benchmarks.painter.hand import runs, strokes


def test_strokes_cover_a_region_and_little_else() -> None:
    y, x = np.mgrid[:256, :256]
    region = ((x - 128) / 70) ** 2 + ((y - 90) / 50) ** 2 < 1
    region[60:80, 100:150] = False  # a hole
    painted = np.zeros_like(region)
    for (x0, y0), (x1, y1) in strokes(region, 12):
        assert y0 == y1
        for at in np.linspace(x0, x1, 40):
            painted |= (x - at) ** 2 + (y - y0) ** 2 < 12**2
    assert (painted & region).sum() / (painted | region).sum() > 0.75
    assert strokes(np.zeros((64, 64), bool), 12) == []


def test_runs_at_both_edges() -> None:
    assert runs(np.array([True, True, False, True])) == [(0, 2), (3, 4)]
    assert runs(np.zeros(3, bool)) == []
