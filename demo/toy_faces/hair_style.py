"""Reads the hair style off a hair mask, by comparing it with the generator's own masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .generator import HAIR, SIZE, draw
from .palette import HAIR_STYLES
from .portrait import random_attributes, random_pose

GRID = 32
EXAMPLES = 300
SMALLEST_HAIR = 0.005


def coarse(mask: np.ndarray) -> np.ndarray:
    """Share of hair in each cell of a 32x32 grid, from a boolean mask [256, 256]."""
    cell = SIZE // GRID
    return mask.reshape(GRID, cell, GRID, cell).mean((1, 3))


@dataclass(frozen=True)
class StyleReader:
    """Probability of hair in every cell [32, 32] for each (style, side it falls to)."""

    templates: dict[tuple[str, int], np.ndarray]

    def read(self, mask: np.ndarray) -> str:
        """The likeliest style of a boolean hair mask [256, 256]; next to no hair is "bald"."""
        if mask.mean() < SMALLEST_HAIR:
            return "bald"
        hair = coarse(mask)
        score = {
            key: float((hair * np.log(p) + (1 - hair) * np.log(1 - p)).sum())
            for key, p in self.templates.items()
        }
        return max(score, key=lambda key: score[key])[0]


def fit_style_reader(examples: int = EXAMPLES, seed: int = 9_000_000) -> StyleReader:
    """Average the hair masks of `examples` freshly drawn portraits (a few seconds)."""
    masks: dict[tuple[str, int], list[np.ndarray]] = {}
    for i in range(examples):
        rng = np.random.default_rng(seed + i)
        attributes, pose = random_attributes(rng), random_pose(rng)
        if attributes.hair_style != "bald":
            _, labels = draw(attributes, pose)
            key = (attributes.hair_style, pose.side if attributes.hair_style == "ponytail" else 0)
            masks.setdefault(key, []).append(coarse(labels == HAIR))
    assert {style for style, _ in masks} == set(HAIR_STYLES) - {"bald"}
    return StyleReader({k: np.mean(v, axis=0).clip(0.03, 0.97) for k, v in masks.items()})
