"""Captions of portraits: written with dropped and shuffled parts, and read back for scoring."""

from __future__ import annotations

import re

import numpy as np

from .palette import (
    BACKGROUND_COLOURS,
    EYE_COLOURS,
    HAIR_COLOURS,
    HAIR_STYLES,
    SHIRT_COLOURS,
    SKIN_TONES,
)
from .portrait import Attributes

KEEP_PROBABILITY = 0.8
SHUFFLE_PROBABILITY = 0.5


def hair_phrase(style: str | None, colour: str | None) -> str:
    """Words for the hair; either part may be left out (None), both gives an empty string."""
    if style == "bald":
        return "bald"
    if style in ("ponytail", "bun"):
        return f"{colour} hair, {style}" if colour else style
    words = [w for w in (style, colour) if w]
    return " ".join([*words, "hair"]) if words else ""


def full_caption(a: Attributes) -> str:
    """The complete caption in its usual order: "portrait, long red hair, dark skin, ..."."""
    return ", ".join(["portrait", *_phrases(a)])


def _phrases(a: Attributes) -> list[str]:
    return [
        hair_phrase(a.hair_style, a.hair_colour),
        f"{a.skin} skin",
        f"{a.eyes} eyes",
        a.mouth,
        f"{a.shirt} shirt",
        f"{a.background} background",
    ]


def random_caption(a: Attributes, rng: np.random.Generator) -> str:
    """A caption with parts dropped and often shuffled, so that partial prompts work."""
    keep = rng.random(8) < KEEP_PROBABILITY
    hair = hair_phrase(a.hair_style if keep[6] else None, a.hair_colour if keep[7] else None)
    if a.hair_style == "bald" and not keep[6]:
        hair = ""
    phrases = [p for p, k in zip([hair, *_phrases(a)[1:]], keep[:6], strict=True) if p and k]
    if rng.random() < SHUFFLE_PROBABILITY:
        phrases = [phrases[i] for i in rng.permutation(len(phrases))]
    head = ["portrait"] if rng.random() < KEEP_PROBABILITY else []
    return ", ".join(head + phrases)


def parse_caption(text: str) -> dict[str, str]:
    """Attributes a caption names, as {field of Attributes: value}; silent about the rest."""
    words = text.lower()
    found: dict[str, str] = {}
    for field, noun, names in (
        ("hair_colour", "hair", HAIR_COLOURS),
        ("skin", "skin", SKIN_TONES),
        ("eyes", "eyes", EYE_COLOURS),
        ("shirt", "shirt", SHIRT_COLOURS),
        ("background", "background", BACKGROUND_COLOURS),
    ):
        match = re.search(rf"\b({'|'.join(names)}) {noun}\b", words)
        if match:
            found[field] = match.group(1)
    style = re.search(rf"\b({'|'.join(HAIR_STYLES)})\b", words)
    if style:
        found["hair_style"] = style.group(1)
    mouth = re.search(r"\b(smiling|neutral|open mouth)\b", words)
    if mouth:
        found["mouth"] = mouth.group(1)
    return found
