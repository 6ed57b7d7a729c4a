"""Curves of several runs per name, and their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from . import svg
from .svg import Axis

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 380, 62, 170, 34, 46

Curve = Sequence[tuple[float, float]]


def line_plot(
    title: str,
    x_label: str,
    y_label: str,
    curves: Mapping[str, Sequence[Curve]],
    levels: Sequence[float] = (),
    floor: float = 0.0,
    logarithmic: bool = False,
    known: Sequence[str] = (),
) -> str:
    """An SVG of one thin line per curve and one thick one of their mean per name.

    levels: dotted horizontal lines. floor: the y axis begins there, or lower. The mean is drawn
    where every curve of a name has a point; curves without one are drawn thicker. logarithmic: the
    x axis, which leaves out points at 0. known: names with a colour of their own in every plot.
    """
    if logarithmic:
        curves = {
            name: [[(x, y) for x, y in curve if x > 0.0] for curve in many]
            for name, many in curves.items()
        }
    points = [p for many in curves.values() for curve in many for p in curve]
    xs, ys = [p[0] for p in points] or [1.0], [p[1] for p in points] or [0.0]
    x_axis = Axis(min(xs), max(max(xs), min(xs) + 1e-9), LEFT, WIDTH - RIGHT, logarithmic)
    low, high = min([*ys, *levels, floor]), max([*ys, *levels, floor + 1e-9])
    pad = 0.05 * (high - low)
    y_axis = Axis(low - pad, high + pad, HEIGHT - BOTTOM, TOP)

    parts = [
        svg.text(LEFT, 20, title, weight="bold"),
        svg.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, anchor="middle"),
        svg.upright(14, (TOP + HEIGHT - BOTTOM) / 2, y_label),
    ]
    for tick in y_axis.ticks():
        y = y_axis.at(tick)
        parts.append(svg.line([(x_axis.start, y), (x_axis.end, y)], svg.FAINT))
        parts.append(svg.text(LEFT - 6, y + 4, f"{tick:g}", anchor="end"))
    for tick in x_axis.ticks():
        place = x_axis.at(tick)
        parts.append(svg.text(place, HEIGHT - BOTTOM + 16, f"{tick:g}", anchor="middle"))
    for level in levels:
        y = y_axis.at(level)
        parts.append(svg.line([(x_axis.start, y), (x_axis.end, y)], svg.DOTTED))
    for i, (name, many) in enumerate(curves.items()):
        drawn = [[(x_axis.at(x), y_axis.at(y)) for x, y in curve] for curve in many]
        pen = svg.pen(known.index(name) if name in known else i)
        mean = mean_curve(drawn)
        thin = (0.8, 0.45) if len(mean) > 1 else (1.4, 0.7)
        parts += [svg.line(curve, pen, *thin) for curve in drawn if len(drawn) > 1]
        if mean:
            parts.append(svg.line(mean, pen, 2.6))
        x, y = WIDTH - RIGHT + 12, TOP + 1 + 18 * i
        parts.append(svg.line([(x, y), (x + 22, y)], pen, 3.0))
        count = f" ({len(many)})" if len(many) > 1 else ""
        parts.append(svg.text(x + 28, y + 4, f"{name}{count}"))
    return svg.sheet(WIDTH, HEIGHT, parts)


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """Means at the x that all curves have."""
    if not curves:
        return []
    common = set.intersection(*({x for x, _ in curve} for curve in curves))
    values = [dict(curve) for curve in curves]
    return [(x, sum(v[x] for v in values) / len(values)) for x in sorted(common)]
