"""What every plot is drawn with: axes, lines and words of an SVG, by hand, so that no plotting
library is needed and equal data give equal bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#b0a000")
FAINT = 'stroke="#e4e4e4"'
FEW = 3
DOTTED = 'stroke="#999" stroke-dasharray="2 4"'


@dataclass(frozen=True)
class Axis:
    """From values, low to high, to places on the sheet, start to end. logarithmic: by factors."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        low, high, value = self._scaled(self.low), self._scaled(self.high), self._scaled(value)
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five round numbers; on a logarithmic axis powers of two, and 1.5 times these where
        there are few."""
        if self.logarithmic:
            first, last = math.floor(math.log2(self.low)), math.floor(math.log2(self.high))
            powers = [2.0**power for power in range(first, last + 1)]
            between = [1.5 * power for power in powers] if last - first < FEW else []
            return [t for t in sorted([*powers, *between]) if self.low <= t <= self.high]
        span = self.high - self.low
        step = 10.0 ** math.floor(math.log10(span / 5.0))
        step *= next(factor for factor in (1, 2, 5, 10) if span / (step * factor) <= 6)
        first = math.ceil(self.low / step)
        last = math.floor(self.high / step)
        return [round(i * step, 10) for i in range(first, last + 1)]

    def _scaled(self, value: float) -> float:
        return math.log2(value) if self.logarithmic else value


def sheet(width: int, height: int, parts: Sequence[str]) -> str:
    """A whole SVG file on white."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">'
    )
    ground = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join([head, ground, *parts, "</svg>"]) + "\n"


def pen(place: int) -> str:
    """How a name's lines are drawn: dashed, in the same colours, beyond the colours."""
    dashed = ' stroke-dasharray="6 3"' if place >= len(COLOURS) else ""
    return f'stroke="{COLOURS[place % len(COLOURS)]}"{dashed}'


def line(
    points: Sequence[tuple[float, float]], stroke: str, width: float = 1.0, opacity: float = 1.0
) -> str:
    path = "L".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return (
        f'<path d="M{path}" fill="none" {stroke} stroke-width="{width}" '
        f'stroke-opacity="{opacity}"/>'
    )


def dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>'


def text(x: float, y: float, words: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(words)}</text>"
    )


def upright(x: float, y: float, words: str) -> str:
    """Words that are read from below, centred."""
    return (
        f'<text transform="translate({x:.0f},{y:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(words)}</text>"
    )
