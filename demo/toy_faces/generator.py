"""Draws cartoon portraits with exact part labels. Needs only Pillow and numpy.

Everything is drawn at three times the final size and reduced, which anti-aliases the picture; the
label of a final pixel is the part that covers most of its nine samples.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageChops, ImageDraw

from .captions import random_caption
from .palette import (
    BACKGROUND_COLOURS,
    EYE_COLOURS,
    HAIR_COLOURS,
    RGB,
    SHIRT_COLOURS,
    SKIN_TONES,
    shade,
)
from .portrait import Attributes, Pose, random_attributes, random_pose

SIZE = 256
SUPERSAMPLE = 3
PARTS = ("background", "hair", "skin", "shirt", "features")
BACKGROUND, HAIR, SKIN, SHIRT, FEATURES = range(len(PARTS))
OUTLINE = 2.2
CENTRED = Pose()


@dataclass(frozen=True)
class Portrait:
    """Image uint8 RGB [256, 256, 3], part labels uint8 [256, 256], what it shows, its caption."""

    image: np.ndarray
    labels: np.ndarray
    attributes: Attributes
    caption: str

    def mask(self, part: str) -> np.ndarray:
        """Boolean mask [256, 256] of one of `PARTS`."""
        return self.labels == PARTS.index(part)


class _Canvas:
    """A colour and a label layer that are painted together, in final-pixel coordinates."""

    def __init__(self, pose: Pose) -> None:
        side = SIZE * SUPERSAMPLE
        self.colour = Image.new("RGB", (side, side))
        self.labels = Image.new("L", (side, side), BACKGROUND)
        self.pose = pose

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Canvas position of a point given relative to the head's centre."""
        p = self.pose
        return (
            (SIZE / 2 + p.dx + x * p.scale * p.width) * SUPERSAMPLE,
            (117 + p.dy + y * p.scale) * SUPERSAMPLE,
        )

    def length(self, d: float) -> float:
        """Canvas length of `d` pixels."""
        return d * self.pose.scale * SUPERSAMPLE

    def blank(self) -> Image.Image:
        """An empty mask."""
        return Image.new("L", self.labels.size, 0)

    def ellipse(self, x: float, y: float, rx: float, ry: float) -> Image.Image:
        """Mask of an ellipse around (x, y)."""
        mask = self.blank()
        ImageDraw.Draw(mask).ellipse(
            (*self.point(x - rx, y - ry), *self.point(x + rx, y + ry)), fill=255
        )
        return mask

    def rounded(self, x0: float, y0: float, x1: float, y1: float, radius: float) -> Image.Image:
        """Mask of a rounded rectangle."""
        mask = self.blank()
        box = (*self.point(x0, y0), *self.point(x1, y1))
        ImageDraw.Draw(mask).rounded_rectangle(box, self.length(radius), fill=255)
        return mask

    def stroke(self, points: list[tuple[float, float]], width: float) -> Image.Image:
        """Mask of a polyline with round joints and ends."""
        mask = self.blank()
        draw = ImageDraw.Draw(mask)
        xy = [self.point(x, y) for x, y in points]
        draw.line(xy, fill=255, width=round(self.length(width)), joint="curve")
        r = self.length(width) / 2
        for x, y in (xy[0], xy[-1]):
            draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        return mask

    def paint(self, mask: Image.Image, colour: RGB, part: int | None) -> None:
        """Fill `mask` with a colour; `part` None leaves the labels as they are (shading)."""
        box = mask.getbbox()
        if box is None:
            return
        mask = mask.crop(box)
        self.colour.paste(colour, box, mask)
        if part is not None:
            self.labels.paste(part, box, mask)


def _union(*masks: Image.Image) -> Image.Image:
    out = masks[0]
    for m in masks[1:]:
        out = ImageChops.lighter(out, m)
    return out


def _minus(a: Image.Image, b: Image.Image) -> Image.Image:
    return ImageChops.subtract(a, b)


def _both(a: Image.Image, b: Image.Image) -> Image.Image:
    return ImageChops.darker(a, b)


def _paint_background(c: _Canvas, colour: RGB) -> None:
    """A flat background with a slightly lighter disc behind the head."""
    c.paint(Image.new("L", c.labels.size, 255), colour, BACKGROUND)
    c.paint(c.ellipse(0, 8, 104, 104), shade(colour, 1.22), None)


def _outlined(c: _Canvas, grow: Image.Image, body: Image.Image, colour: RGB, part: int) -> None:
    c.paint(grow, shade(colour, 0.68), part)
    c.paint(body, colour, part)


def _curls(c: _Canvas, volume: float, grow: float) -> Image.Image:
    """A crown of overlapping circles around the upper head."""
    masks = [c.ellipse(0, -14, 58 * volume + grow, 62 * volume + grow)]
    for k in range(13):
        angle = math.radians(158 + k * (224 / 12))
        x, y = 56 * volume * math.cos(angle), -12 + 58 * volume * math.sin(angle)
        masks.append(c.ellipse(x, y, 17 + grow, 17 + grow))
    return _union(*masks)


def _long(c: _Canvas, volume: float, grow: float) -> Image.Image:
    g = grow
    crown = c.ellipse(0, -16, 58 * volume + g, 58 + g)
    fall = c.rounded(-60 * volume - g, -20 - g, 60 * volume + g, 100 + g, 28)
    return _union(crown, fall)


def _tail(c: _Canvas, side: int, grow: float) -> Image.Image:
    """A ponytail that leaves the back of the head and hangs beside the cheek."""
    masks = []
    for k in range(12):
        t = k / 11
        x = side * (44 + 42 * math.sin(t * 2.1))
        y = -50 + 122 * t
        r = 11 + 11 * math.sin(math.pi * (0.15 + 0.8 * t))
        masks.append(c.ellipse(x, y, r + grow, r + grow))
    return _union(*masks)


def _bun(c: _Canvas, grow: float) -> Image.Image:
    return c.ellipse(0, -80, 24 + grow, 21 + grow)


def _paint_back_hair(c: _Canvas, a: Attributes) -> None:
    """Hair that lies behind the face and the shoulders."""
    hair, v = HAIR_COLOURS[a.hair_colour], c.pose.hair_volume
    if a.hair_style == "curly":
        _outlined(c, _curls(c, v, OUTLINE), _curls(c, v, 0), hair, HAIR)
    elif a.hair_style == "long":
        _outlined(c, _long(c, v, OUTLINE), _long(c, v, 0), shade(hair, 0.9), HAIR)
    elif a.hair_style == "ponytail":
        _outlined(c, _tail(c, c.pose.side, OUTLINE), _tail(c, c.pose.side, 0), hair, HAIR)
    elif a.hair_style == "bun":
        _outlined(c, _bun(c, OUTLINE), _bun(c, 0), hair, HAIR)


def _paint_body(c: _Canvas, a: Attributes) -> None:
    """Shoulders in a shirt with a round neck, and the neck with the head's shadow on it."""
    shirt, skin = SHIRT_COLOURS[a.shirt], SKIN_TONES[a.skin]
    body = _union(c.ellipse(0, 146, 82, 58), c.rounded(-82, 140, 82, 220, 20))
    grow = _union(c.ellipse(0, 146, 82 + OUTLINE, 58 + OUTLINE), c.rounded(-84, 140, 84, 220, 20))
    _outlined(c, grow, body, shirt, SHIRT)
    neck = _union(c.rounded(-18, 40, 18, 98, 8), c.ellipse(0, 92, 29, 17))
    collar = _both(c.ellipse(0, 92, 36, 24), grow)
    c.paint(collar, shade(shirt, 0.78), SHIRT)
    c.paint(neck, skin, SKIN)
    c.paint(_both(neck, c.ellipse(0, 54, 40, 22)), shade(skin, 0.84), SKIN)


def _paint_head(c: _Canvas, a: Attributes) -> Image.Image:
    """Ears and face; returns the face's mask."""
    skin = SKIN_TONES[a.skin]
    for s in (-1, 1):
        _outlined(
            c,
            c.ellipse(s * 49, 6, 10 + OUTLINE, 13 + OUTLINE),
            c.ellipse(s * 49, 6, 10, 13),
            skin,
            SKIN,
        )
        c.paint(c.ellipse(s * 50, 7, 5, 7), shade(skin, 0.84), None)
    face = _union(c.ellipse(0, -4, 50, 54), c.ellipse(0, 14, 44, 48))
    grow = _union(
        c.ellipse(0, -4, 50 + OUTLINE, 54 + OUTLINE), c.ellipse(0, 14, 44 + OUTLINE, 48 + OUTLINE)
    )
    _outlined(c, grow, face, skin, SKIN)
    for s in (-1, 1):
        c.paint(c.ellipse(s * 30, 27, 10, 7), _blend(skin, (240, 96, 96), 0.28), None)
    return face


def _blend(a: RGB, b: RGB, t: float) -> RGB:
    r, g, bl = (round(x + (y - x) * t) for x, y in zip(a, b, strict=True))
    return r, g, bl


def _paint_features(c: _Canvas, a: Attributes) -> None:
    """Eyes, brows, nose and mouth."""
    gap, gaze = c.pose.eye_gap, c.pose.gaze
    skin = SKIN_TONES[a.skin]
    iris = EYE_COLOURS[a.eyes]
    brow = (78, 58, 50) if a.hair_style == "bald" else shade(HAIR_COLOURS[a.hair_colour], 0.62)
    for s in (-1, 1):
        x = s * gap
        c.paint(c.ellipse(x, 2, 14.5, 14), shade(skin, 0.5), FEATURES)
        c.paint(c.ellipse(x, 3, 13, 12.5), (252, 252, 252), FEATURES)
        c.paint(c.ellipse(x + gaze, 3.5, 9, 9.5), iris, FEATURES)
        c.paint(c.ellipse(x + gaze, 3.5, 4.8, 5), (30, 26, 32), FEATURES)
        c.paint(c.ellipse(x + gaze - 3, -0.5, 3, 3), (255, 255, 255), FEATURES)
        arch = [(x + s * d, -20 + 0.02 * (d + 3) ** 2) for d in (-12, -6, 0, 6, 12)]
        c.paint(c.stroke(arch, 5), brow, FEATURES)
    c.paint(c.ellipse(0, 20, 7, 5.5), shade(skin, 0.74), SKIN)
    c.paint(c.ellipse(0, 18.5, 6, 4.5), shade(skin, 1.0), SKIN)
    _paint_mouth(c, a.mouth, skin)


def _paint_mouth(c: _Canvas, mouth: str, skin: RGB) -> None:
    dark, lip = (122, 34, 44), _blend(skin, (150, 30, 40), 0.6)
    if mouth == "smiling":
        grin = _both(c.ellipse(0, 33, 20, 16), c.rounded(-24, 35, 24, 60, 2))
        c.paint(grin, dark, FEATURES)
        c.paint(_both(grin, c.rounded(-24, 35, 24, 40, 1)), (252, 252, 252), FEATURES)
    elif mouth == "open mouth":
        c.paint(c.ellipse(0, 42, 10.5, 12), lip, FEATURES)
        c.paint(c.ellipse(0, 42, 8, 9.5), dark, FEATURES)
        c.paint(_both(c.ellipse(0, 42, 8, 9.5), c.ellipse(0, 50, 7, 6)), (224, 104, 110), FEATURES)
    else:
        c.paint(c.stroke([(-12, 40), (0, 41), (12, 40)], 5), lip, FEATURES)


def _front_hair(c: _Canvas, a: Attributes, grow: float) -> Image.Image:
    """Hair over the forehead: a cap around the skull less a window for the face."""
    side = c.pose.side
    cap = c.ellipse(0, -14, 54 + grow, 50 + grow)
    if a.hair_style == "curly":
        bumps = [
            c.ellipse(x, -44 + 0.006 * x * x, 15 + grow, 14 + grow) for x in (-38, -20, 0, 20, 38)
        ]
        return _union(c.ellipse(0, -54, 46, 16), *bumps)
    if a.hair_style == "short":
        window = _union(
            c.ellipse(side * 10, 14, 47 - grow, 43 - grow), c.rounded(-60, 8 + grow, 60, 90, 2)
        )
        return _minus(cap, window)
    if a.hair_style == "long":
        window = c.ellipse(0, 24, 44 - grow, 56 - grow)
        left = c.ellipse(-50, 30, 13 + grow, 56 + grow)
        right = c.ellipse(50, 30, 13 + grow, 56 + grow)
        return _minus(_union(cap, left, right), window)
    window = _union(c.ellipse(0, 20, 48 - grow, 52 - grow), c.rounded(-60, 0 + grow, 60, 90, 2))
    return _minus(cap, window)


def _paint_front_hair(c: _Canvas, a: Attributes) -> None:
    hair = HAIR_COLOURS[a.hair_colour]
    body = _front_hair(c, a, 0)
    _outlined(c, _front_hair(c, a, OUTLINE), body, hair, HAIR)
    shine = _minus(
        c.ellipse(c.pose.side * -8, -26, 42, 34), c.ellipse(c.pose.side * -6, -20, 44, 33)
    )
    if a.hair_style != "curly":
        c.paint(_both(shine, body), shade(hair, 1.28), None)
    if a.hair_style == "ponytail":
        c.paint(c.ellipse(c.pose.side * 50, -44, 8, 9), shade(hair, 0.6), HAIR)
    if a.hair_style == "bun":
        c.paint(_both(c.ellipse(-6, -87, 9, 5), _bun(c, 0)), shade(hair, 1.28), None)


def _majority(labels: Image.Image) -> np.ndarray:
    """Part covering most of each SUPERSAMPLE x SUPERSAMPLE block, uint8 [256, 256]."""
    n = SUPERSAMPLE
    array = np.asarray(labels)
    counts = np.zeros((len(PARTS), SIZE, SIZE), np.uint8)
    for part in range(len(PARTS)):
        hit = (array == part).view(np.uint8)
        for i in range(n * n):
            counts[part] += hit[i // n :: n, i % n :: n]
    return counts.argmax(0).astype(np.uint8)


def draw(
    a: Attributes, pose: Pose = CENTRED, with_labels: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one portrait: uint8 RGB [256, 256, 3] and part labels uint8 [256, 256]."""
    c = _Canvas(pose)
    _paint_background(c, BACKGROUND_COLOURS[a.background])
    _paint_back_hair(c, a)
    _paint_body(c, a)
    _paint_head(c, a)
    if a.hair_style == "bald":
        c.paint(c.ellipse(c.pose.side * -16, -38, 13, 7), shade(SKIN_TONES[a.skin], 1.3), None)
    _paint_features(c, a)
    if a.hair_style != "bald":
        _paint_front_hair(c, a)
    image = np.asarray(c.colour.reduce(SUPERSAMPLE))
    labels = _majority(c.labels) if with_labels else np.zeros((SIZE, SIZE), np.uint8)
    return image, labels


def portrait(seed: int, with_labels: bool = True) -> Portrait:
    """The portrait of a seed: always the same attributes, pose, picture and caption."""
    rng = np.random.default_rng(seed)
    attributes, pose = random_attributes(rng), random_pose(rng)
    caption = random_caption(attributes, rng)
    image, labels = draw(attributes, pose, with_labels)
    return Portrait(image, labels, attributes, caption)


def portraits(first_seed: int, count: int) -> Iterator[Portrait]:
    """Portraits of consecutive seeds."""
    for seed in range(first_seed, first_seed + count):
        yield portrait(seed)
