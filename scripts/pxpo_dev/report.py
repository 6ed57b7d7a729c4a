"""The demo's figures, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

INK, MUTED, GRID = "#1f2430", "#6b7280", "#e5e7eb"
BLUE, BLUE_BAND, ORANGE = "#2563eb", "#dbe6fd", "#e8741e"
SCALE = 2  # drawn at twice the size, for sharp lines and small type


def font(size: float) -> Any:
    """Pillow's own typeface: the same on every system."""
    return ImageFont.load_default(size * SCALE)


def nice_step(span: float, count: int = 5) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides `span` into about `count` parts."""
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(m * power for m in (1, 2, 5, 10) if raw <= m * power)


def reward_chart(
    rounds: Sequence[Mapping[str, Any]], before: Mapping[str, Any], after: Mapping[str, Any]
) -> Image.Image:
    """Mean reward of every round with its spread over the images, and the evaluation."""
    width, height = 860 * SCALE, 480 * SCALE
    left, right, top, bottom = 84 * SCALE, 150 * SCALE, 74 * SCALE, 66 * SCALE
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    means = [float(row["reward_mean"]) for row in rounds]
    spreads = [float(row["reward_std"]) for row in rounds]
    ends = [before["mean"], after["mean"]]
    low = min([m - s for m, s in zip(means, spreads, strict=True)] + ends)
    high = max([m + s for m, s in zip(means, spreads, strict=True)] + ends)
    margin = 0.08 * ((high - low) or 1.0)
    low, high = low - margin, high + margin

    def x(position: float) -> float:
        last = max(len(rounds), 2)
        return left + (position - 1) / (last - 1) * (width - left - right)

    def y(value: float) -> float:
        return top + (high - value) / (high - low) * (height - top - bottom)

    draw.text((left, 22 * SCALE), "Mean reward per round", fill=INK, font=font(20))
    images = rounds[0]["images"]
    subtitle = f"band: ± 1 sd over the images of a round ({images} images in the first)"
    draw.text((left, 48 * SCALE), subtitle, fill=MUTED, font=font(12))
    step = nice_step(high - low)
    tick = math.ceil(low / step) * step
    digits = max(0, -math.floor(math.log10(step)))
    while tick <= high:
        draw.line([(left, y(tick)), (width - right, y(tick))], fill=GRID, width=SCALE)
        draw.text(
            (left - 10 * SCALE, y(tick)),
            f"{tick:.{digits}f}",
            fill=MUTED,
            font=font(12),
            anchor="rm",
        )
        tick += step
    every = max(1, round(nice_step(len(rounds), 10))) if len(rounds) > 10 else 1
    for row in range(1, len(rounds) + 1):
        if row == 1 or row % every == 0:
            position = (x(row), height - bottom + 10 * SCALE)
            draw.text(position, str(row), fill=MUTED, font=font(12), anchor="mt")
    middle = ((left + width - right) / 2, height - 24 * SCALE)
    draw.text(middle, "round", fill=MUTED, font=font(13), anchor="mm")

    upper = [(x(i), y(m + s)) for i, (m, s) in enumerate(zip(means, spreads, strict=True), 1)]
    lower = [(x(i), y(m - s)) for i, (m, s) in enumerate(zip(means, spreads, strict=True), 1)]
    if len(rounds) > 1:
        draw.polygon(upper + lower[::-1], fill=BLUE_BAND)
        draw.line(
            [(x(i), y(m)) for i, m in enumerate(means, 1)],
            fill=BLUE,
            width=3 * SCALE,
            joint="curve",
        )
    for index, mean in enumerate(means, 1):
        dot(draw, x(index), y(mean), 4.5 * SCALE, BLUE)
    for name, value in (("before", ends[0]), ("after", ends[1])):
        dashed(draw, left, width - right, y(value), ORANGE)
        label = f"{name} {value:+.3f}"
        place = (width - right + 10 * SCALE, y(value))
        draw.text(place, label, fill=ORANGE, font=font(13), anchor="lm")
    count = before["n"]
    note = f"dashed: the same {count} evaluation images"
    draw.text(
        (width - 16 * SCALE, height - 24 * SCALE), note, fill=ORANGE, font=font(12), anchor="rm"
    )
    return image


def dot(draw: ImageDraw.ImageDraw, x: float, y: float, radius: float, colour: str) -> None:
    """A filled point with a white rim."""
    rim = radius + 1.5 * SCALE
    draw.ellipse([x - rim, y - rim, x + rim, y + rim], fill="white")
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)


def dashed(draw: ImageDraw.ImageDraw, start: float, end: float, y: float, colour: str) -> None:
    """A horizontal dashed line."""
    dash, gap = 7 * SCALE, 5 * SCALE
    position = start
    while position < end:
        draw.line([(position, y), (min(position + dash, end), y)], fill=colour, width=2 * SCALE)
        position += dash + gap


def before_after(
    before: Sequence[Image.Image], after: Sequence[Image.Image], prompt: str, columns: int = 8
) -> Image.Image:
    """A labelled grid: the same seeds with the LoRA off (upper) and on (lower)."""
    tile, gap, label, top = 96 * SCALE, 4 * SCALE, 92 * SCALE, 52 * SCALE
    groups = [range(i, min(i + columns, len(before))) for i in range(0, len(before), columns)]
    between = 16 * SCALE
    width = label + columns * (tile + gap) + gap
    height = top + len(groups) * (2 * (tile + gap) + between)
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((12 * SCALE, 10 * SCALE), "The same seeds, LoRA off and on", fill=INK, font=font(17))
    draw.text((12 * SCALE, 32 * SCALE), f"prompt: {prompt}", fill=MUTED, font=font(11))
    y = top
    for group in groups:
        for name, colour, pictures in (("off", MUTED, before), ("on", BLUE, after)):
            place = (label - 12 * SCALE, y + tile // 2)
            draw.text(place, f"LoRA {name}", fill=colour, font=font(13), anchor="rm")
            for column, index in enumerate(group):
                small = pictures[index].resize((tile, tile), Image.Resampling.LANCZOS)
                image.paste(small, (label + column * (tile + gap), y))
            y += tile + gap
        y += between
    return image
