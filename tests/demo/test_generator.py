"""The procedural portraits: deterministic, exactly labelled, truthfully captioned."""

from __future__ import annotations

import numpy as np
import pytest

from demo.toy_faces.captions import full_caption, hair_phrase, parse_caption, random_caption
from demo.toy_faces.generator import PARTS, SIZE, draw, portrait
from demo.toy_faces.palette import (
    BACKGROUND_COLOURS,
    HAIR_COLOURS,
    HAIR_STYLES,
    SHIRT_COLOURS,
    nearest,
)
from demo.toy_faces.portrait import Attributes, Pose, random_attributes


def attributes(**changes: str) -> Attributes:
    usual = {
        "hair_style": "long",
        "hair_colour": "red",
        "skin": "light",
        "eyes": "blue",
        "mouth": "smiling",
        "shirt": "yellow",
        "background": "green",
    }
    return Attributes(**{**usual, **changes})


def test_same_seed_same_portrait() -> None:
    first, second = portrait(7), portrait(7)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.labels, second.labels)
    assert (first.caption, first.attributes) == (second.caption, second.attributes)
    assert not np.array_equal(first.image, portrait(8).image)


def test_masks_partition_the_picture() -> None:
    p = portrait(3)
    assert p.image.shape == (SIZE, SIZE, 3)
    total = sum(p.mask(part).astype(int) for part in PARTS)
    assert (total == 1).all()


@pytest.mark.parametrize("style", [s for s in HAIR_STYLES if s != "bald"])
@pytest.mark.parametrize("colour", HAIR_COLOURS)
def test_hair_mask_has_the_hair_colour(style: str, colour: str) -> None:
    image, labels = draw(attributes(hair_style=style, hair_colour=colour))
    hair = labels == PARTS.index("hair")
    assert 0.05 < hair.mean() < 0.4
    assert nearest(tuple(np.median(image[hair], axis=0)), HAIR_COLOURS) == colour


@pytest.mark.parametrize("background", BACKGROUND_COLOURS)
@pytest.mark.parametrize("shirt", SHIRT_COLOURS)
def test_background_and_shirt_masks_have_their_colours(background: str, shirt: str) -> None:
    image, labels = draw(attributes(background=background, shirt=shirt))
    back, front = labels == PARTS.index("background"), labels == PARTS.index("shirt")
    assert nearest(tuple(np.median(image[back], axis=0)), BACKGROUND_COLOURS) == background
    assert nearest(tuple(np.median(image[front], axis=0)), SHIRT_COLOURS) == shirt


def test_bald_heads_have_no_hair() -> None:
    _, labels = draw(attributes(hair_style="bald"))
    assert not (labels == PARTS.index("hair")).any()


def test_changing_the_hair_colour_changes_hair_and_brows_only() -> None:
    red, labels = draw(attributes(hair_colour="red"))
    blue, _ = draw(attributes(hair_colour="blue"))
    changed = (red != blue).any(-1)
    allowed = np.isin(labels, (PARTS.index("hair"), PARTS.index("features")))
    assert changed[labels == PARTS.index("hair")].mean() > 0.99
    # Anti-aliased borders mix two parts: a small share of the change lies one pixel outside.
    assert (changed & ~allowed).mean() < 0.01


def test_pose_moves_the_head() -> None:
    left, _ = draw(attributes(), Pose(dx=-8))
    right, _ = draw(attributes(), Pose(dx=8))
    assert not np.array_equal(left, right)


def test_full_caption_reads_back() -> None:
    for seed in range(40):
        a = random_attributes(np.random.default_rng(seed))
        wanted = vars(a).copy()
        if a.hair_style == "bald":
            del wanted["hair_colour"]
        assert parse_caption(full_caption(a)) == wanted


def test_random_captions_never_lie() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        a = random_attributes(rng)
        caption = random_caption(a, rng)
        seen.add(len(caption.split(", ")))
        for field, value in parse_caption(caption).items():
            assert getattr(a, field) == value, caption
    assert len(seen) > 3, "parts are dropped"


def test_example_prompt_is_understood() -> None:
    assert parse_caption("portrait, long red hair, dark skin, green background") == {
        "hair_style": "long",
        "hair_colour": "red",
        "skin": "dark",
        "background": "green",
    }
    assert hair_phrase(None, None) == ""
