"""What a portrait is: its attributes, its pose, and how both are drawn at random."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .palette import (
    BACKGROUND_COLOURS,
    EYE_COLOURS,
    HAIR_COLOURS,
    HAIR_STYLES,
    MOUTHS,
    SHIRT_COLOURS,
    SKIN_TONES,
)


@dataclass(frozen=True)
class Attributes:
    """Everything a caption can speak of. Values are keys of the tables in `palette`."""

    hair_style: str
    hair_colour: str
    skin: str
    eyes: str
    mouth: str
    shirt: str
    background: str


@dataclass(frozen=True)
class Pose:
    """Small variation that captions do not mention; lengths in pixels of a 256x256 picture."""

    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.06
    width: float = 1.0
    eye_gap: float = 22.0
    gaze: float = 0.0
    side: int = 1
    hair_volume: float = 1.0


def random_attributes(rng: np.random.Generator) -> Attributes:
    """Draw every attribute uniformly; bald heads are half as common as the other styles."""
    weights = np.array([0.5 if s == "bald" else 1.0 for s in HAIR_STYLES])
    return Attributes(
        hair_style=str(rng.choice(HAIR_STYLES, p=weights / weights.sum())),
        hair_colour=str(rng.choice(tuple(HAIR_COLOURS))),
        skin=str(rng.choice(tuple(SKIN_TONES))),
        eyes=str(rng.choice(tuple(EYE_COLOURS))),
        mouth=str(rng.choice(MOUTHS)),
        shirt=str(rng.choice(tuple(SHIRT_COLOURS))),
        background=str(rng.choice(tuple(BACKGROUND_COLOURS))),
    )


def random_pose(rng: np.random.Generator) -> Pose:
    """Draw a pose close to the centre of the picture."""
    return Pose(
        dx=float(rng.uniform(-8, 8)),
        dy=float(rng.uniform(-6, 6)),
        scale=float(rng.uniform(1.0, 1.13)),
        width=float(rng.uniform(0.93, 1.07)),
        eye_gap=float(rng.uniform(20.5, 24.0)),
        gaze=float(rng.uniform(-2.5, 2.5)),
        side=int(rng.choice((-1, 1))),
        hair_volume=float(rng.uniform(0.92, 1.1)),
    )
