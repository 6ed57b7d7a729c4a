"""Small SVG line plots, written by hand: no plotting library, and equal data give equal bytes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555", "#b0a000")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 380, 62, 170, 34, 46

Curve = Sequence[tuple[float, float]]


def line_plot(
    title: str,
    x_label: str,
    y_label: str,
    curves: Mapping[str, Sequence[Curve]],
    levels: Sequence[float] = (),
) -> str:
    """An SVG of one thin line per curve and one thick one of their mean per name.

    levels: dotted horizontal lines. The mean is drawn where every curve of a name has a point.
    Names beyond the colours get dashed lines in the same colours.
    """
    points = [p for many in curves.values() for curve in many for p in curve]
    xs, ys = [p[0] for p in points] or [0.0, 1.0], [p[1] for p in points] or [0.0, 1.0]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = min([*ys, *levels, 0.0]), max([*ys, *levels, 1e-9])
    pad = 0.05 * (y_high - y_low)
    y_low, y_high = y_low - pad, y_high + pad

    def at(x: float, y: float) -> str:
        px = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        py = HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return f"{px:.1f},{py:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(LEFT, 20, title, weight="bold"),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, x_label, anchor="middle"),
        f'<text transform="translate(14,{(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" '
        f'text-anchor="middle">{escape(y_label)}</text>',
    ]
    for tick in _ticks(y_low, y_high):
        x, y = at(x_low, tick).split(",")
        end = at(x_high, tick)
        parts.append(f'<path d="M{x},{y}L{end}" stroke="#e4e4e4"/>')
        parts.append(_text(LEFT - 6, float(y) + 4, f"{tick:g}", anchor="end"))
    for tick in _ticks(x_low, x_high):
        x = at(tick, y_low).split(",")[0]
        parts.append(_text(float(x), HEIGHT - BOTTOM + 16, f"{tick:g}", anchor="middle"))
    for level in levels:
        parts.append(
            f'<path d="M{at(x_low, level)}L{at(x_high, level)}" stroke="#999" '
            'stroke-dasharray="2 4"/>'
        )
    for i, (name, many) in enumerate(curves.items()):
        pen = _pen(i)
        for curve in many if len(many) > 1 else ():
            parts.append(_path([at(*p) for p in curve], pen, 0.8, 0.45))
        mean = mean_curve(many)
        if mean:
            parts.append(_path([at(*p) for p in mean], pen, 2.6, 1.0))
        x, y = WIDTH - RIGHT + 12, TOP + 1 + 18 * i
        parts.append(_path([f"{x},{y}", f"{x + 22},{y}"], pen, 3.0, 1.0))
        count = f" ({len(many)})" if len(many) > 1 else ""
        parts.append(_text(x + 28, y + 4, f"{name}{count}"))
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def mean_curve(curves: Sequence[Curve]) -> list[tuple[float, float]]:
    """Means at the x that all curves have."""
    if not curves:
        return []
    common = set.intersection(*({x for x, _ in curve} for curve in curves))
    values = [dict(curve) for curve in curves]
    return [(x, sum(v[x] for v in values) / len(values)) for x in sorted(common)]


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers between low and high."""
    span = high - low
    step = 10.0 ** _floor_log10(span / 5.0)
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= 6:
            step *= factor
            break
    first = -(-low // step)
    return [round((first + i) * step, 10) for i in range(int((high - first * step) / step) + 1)]


def _floor_log10(value: float) -> int:
    exponent = 0
    while value >= 10.0:
        value, exponent = value / 10.0, exponent + 1
    while value < 1.0:
        value, exponent = value * 10.0, exponent - 1
    return exponent


def _pen(place: int) -> str:
    """How a name's lines are drawn."""
    dashed = ' stroke-dasharray="6 3"' if place >= len(COLOURS) else ""
    return f'stroke="{COLOURS[place % len(COLOURS)]}"{dashed}'


def _path(points: Sequence[str], pen: str, width: float, opacity: float) -> str:
    return (
        f'<path d="M{"L".join(points)}" fill="none" {pen} stroke-width="{width}" '
        f'stroke-opacity="{opacity}"/>'
    )


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(text)}</text>"
    )
