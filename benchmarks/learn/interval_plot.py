"""Ratios with their intervals, one row per comparison."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import svg
from .svg import Axis

WIDTH, RIGHT, TOP, BOTTOM, ROW = 640, 150, 34, 46, 26
CHARACTER = 7
"""Pixels that one of a label takes at most."""

Interval = tuple[float, float, float]
"""Mean, low, high."""


def interval_plot(
    title: str, x_label: str, names: Sequence[str], rows: Mapping[str, Sequence[Interval | None]]
) -> str:
    """An SVG with a dot and its interval per name in every row, on an axis of factors around 1.

    rows: what is compared -> one interval per name, None where there is none.
    """
    left, bottom = 20 + CHARACTER * max(map(len, rows), default=0), TOP + ROW * len(rows)
    known = [found for row in rows.values() for found in row if found is not None]
    ends = [end for _, low, high in known for end in (low, high)]
    axis = Axis(min([*ends, 0.95]), max([*ends, 1.05]), left, WIDTH - RIGHT, logarithmic=True)
    parts = [
        svg.text(12, 20, title, weight="bold"),
        svg.text((left + WIDTH - RIGHT) / 2, bottom + BOTTOM - 8, x_label, anchor="middle"),
    ]
    for tick in axis.ticks():
        stroke = svg.DOTTED if tick == 1.0 else svg.FAINT
        parts.append(svg.line([(axis.at(tick), TOP), (axis.at(tick), bottom)], stroke))
        parts.append(svg.text(axis.at(tick), bottom + 16, f"{tick:g}", anchor="middle"))
    for i, (label, row) in enumerate(rows.items()):
        middle = TOP + ROW * (i + 0.5)
        parts.append(svg.text(left - 10, middle + 4, label, anchor="end"))
        for j, found in enumerate(row):
            if found is None:
                continue
            mean, low, high = found
            y = middle + 7.0 * (j - (len(row) - 1) / 2.0)
            parts.append(svg.line([(axis.at(low), y), (axis.at(high), y)], svg.pen(j), 1.6))
            parts.append(svg.dot(axis.at(mean), y, svg.COLOURS[j]))
    for j, name in enumerate(names):
        y = TOP + 8 + 18 * j
        parts.append(svg.dot(WIDTH - RIGHT + 22, y, svg.COLOURS[j]))
        parts.append(svg.text(WIDTH - RIGHT + 32, y + 4, name))
    return svg.sheet(WIDTH, bottom + BOTTOM, parts)
