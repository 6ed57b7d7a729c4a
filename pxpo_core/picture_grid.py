"""A labelled grid of pictures: one row for each picture of a batch, one column for each version."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .difference import ramp
from .reward import check_images

SMALLEST, LARGEST = 256, 1024
"""Pictures are shown at least and at most this large (longer side)."""
LARGEST_GRID = 8192
"""Neither side of the grid is longer than this."""

_PAPER = (24, 24, 27)
_TITLE = (244, 244, 245)
_QUIET = (161, 161, 170)
_LINE = (63, 63, 70)


@dataclass(frozen=True)
class Column:
    """One version of every picture. images: [B, H, W, 3] in 0..1.

    accent: colour of the line below the title, None for the colours of a difference heatmap.
    """

    title: str
    note: str
    images: Tensor
    accent: tuple[int, int, int] | None = _LINE


def labelled_grid(columns: Sequence[Column]) -> Tensor:
    """[1, H, W, 3] in 0..1. Raises ValueError unless all columns have equally many, equally large
    pictures.
    """
    images = [check_images(column.images) for column in columns]
    if not images or len({tuple(i.shape) for i in images}) != 1:
        raise ValueError("A grid needs columns with equally many pictures of one size.")
    rows, height, width = images[0].shape[:3]
    layout = _Layout.fit(rows, len(columns), height, width)
    canvas = Image.new("RGB", (layout.width, layout.height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    corners = _rounded(layout.cell, layout.gap)
    for c, column in enumerate(columns):
        _draw_header(canvas, draw, layout, layout.left(c), column)
        for row in range(rows):
            pixels = (images[c][row].clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
            picture = Image.fromarray(pixels.cpu().contiguous().numpy())
            picture = picture.resize(layout.cell, Image.Resampling.LANCZOS)
            canvas.paste(picture, (layout.left(c), layout.top(row)), corners)
    if rows > 1:
        font = _font(layout.small)
        for row in range(rows):
            middle = layout.top(row) + layout.cell[1] / 2
            draw.text((layout.gutter / 2, middle), str(row + 1), _QUIET, font, "mm")
    return torch.from_numpy(np.asarray(canvas, dtype=np.float32) / 255.0)[None]


@dataclass(frozen=True, slots=True)
class _Layout:
    """Sizes in pixels. cell: (width, height) of a picture."""

    rows: int
    columns: int
    cell: tuple[int, int]
    gap: int
    margin: int
    header: int
    gutter: int
    small: int

    @classmethod
    def fit(cls, rows: int, columns: int, height: int, width: int) -> "_Layout":
        longest = max(height, width)
        scale = min(max(1.0, SMALLEST / longest), LARGEST / longest)
        # a sixteenth is room for headers and gaps
        room = LARGEST_GRID * 15 / 16
        scale = min(scale, room / (columns * width), room / (rows * height))
        cell = max(1, round(width * scale)), max(1, round(height * scale))
        unit = max(16, min(cell[0], 512) // 16)
        return cls(
            rows=rows,
            columns=columns,
            cell=cell,
            gap=max(6, unit // 2),
            margin=unit,
            header=3 * unit,
            gutter=2 * unit if rows > 1 else unit,
            small=max(9, unit * 3 // 4),
        )

    @property
    def width(self) -> int:
        return self.left(self.columns - 1) + self.cell[0] + self.margin

    @property
    def height(self) -> int:
        return self.top(self.rows - 1) + self.cell[1] + self.margin

    def left(self, column: int) -> int:
        return self.gutter + column * (self.cell[0] + self.gap)

    def top(self, row: int) -> int:
        return self.header + row * (self.cell[1] + self.gap)


def _draw_header(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, layout: _Layout, left: int, column: Column
) -> None:
    """Title at the left, note at the right, and a coloured line below them."""
    width, line = layout.cell[0], max(2, layout.header // 24)
    bottom = layout.header - layout.gap
    base = bottom - line - layout.header // 6
    title, small = _font(layout.header * 3 // 8), _font(layout.small)
    draw.text((left, base), column.title, _TITLE, title, "ls")
    used = draw.textlength(column.title, title) + layout.gap
    if used + draw.textlength(column.note, small) <= width:
        draw.text((left + width, base), column.note, _QUIET, small, "rs")
    if column.accent is not None:
        draw.rectangle((left, bottom - line, left + width - 1, bottom - 1), column.accent)
        return
    colours = (ramp(torch.linspace(0.0, 1.0, width)) * 255.0).round().to(torch.uint8)
    strip = colours[None].expand(line, -1, -1).contiguous().numpy()
    canvas.paste(Image.fromarray(strip), (left, bottom - line))


def _rounded(size: tuple[int, int], gap: int) -> Image.Image:
    """A mask with slightly round corners, drawn four times as large to be smooth."""
    large = Image.new("L", (size[0] * 4, size[1] * 4), 0)
    corner = (0, 0, large.width - 1, large.height - 1)
    ImageDraw.Draw(large).rounded_rectangle(corner, radius=2 * gap, fill=255)
    return large.resize(size, Image.Resampling.LANCZOS)


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return ImageFont.load_default(max(size, 9))
