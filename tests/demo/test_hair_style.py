"""The hair style reader agrees with the generator."""

from __future__ import annotations

import numpy as np

from demo.toy_faces.generator import portrait
from demo.toy_faces.hair_style import fit_style_reader


def test_styles_of_unseen_portraits_are_read() -> None:
    reader = fit_style_reader(120)
    drawn = [portrait(seed) for seed in range(60)]
    right = [reader.read(p.mask("hair")) == p.attributes.hair_style for p in drawn]
    assert np.mean(right) >= 0.95
