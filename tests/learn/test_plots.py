"""The benchmark's plots: what is drawn, and where."""

from __future__ import annotations

import pytest

from benchmarks.learn.interval_plot import interval_plot
from benchmarks.learn.line_plot import line_plot, mean_curve
from benchmarks.learn.svg import COLOURS, Axis


def test_plot_has_a_line_per_seed_and_a_mean() -> None:
    svg = line_plot("t", "x", "y", {"a <b>": [[(0, 0), (1, 1)], [(0, 2), (1, 3)]]}, (0.5,))
    assert svg.count('stroke-width="0.8"') == 2
    assert svg.count('stroke-width="2.6"') == 1
    assert "a &lt;b&gt; (2)" in svg
    assert "dasharray" not in svg.replace('stroke-dasharray="2 4"', "")
    many = line_plot("t", "x", "y", {f"m{i}": [[(0, 0), (1, i)]] for i in range(9)})
    assert (many.count('stroke-width="0.8"'), many.count('stroke-width="2.6"')) == (0, 9)
    assert many.count('stroke-dasharray="6 3"') == 2
    assert ">m8<" in many
    assert mean_curve([[(0, 0), (1, 1)], [(0, 2), (1, 3), (2, 9)]]) == [(0, 1), (1, 2)]


def test_a_known_name_has_the_same_colour_in_every_plot() -> None:
    curve = [[(0.0, 0.0), (1.0, 1.0)]]
    alone = line_plot("t", "x", "y", {"b": curve}, known=("a", "b"))
    both = line_plot("t", "x", "y", {"a": curve, "b": curve}, known=("a", "b"))
    assert COLOURS[1] in alone
    assert COLOURS[0] not in alone
    assert COLOURS[0] in both


def test_a_logarithmic_plot_begins_after_zero() -> None:
    svg = line_plot("t", "x", "y", {"a": [[(0, 0), (8, 1), (64, 2)]]}, logarithmic=True)
    assert all(f">{tick}</text>" in svg for tick in (8, 16, 32, 64))
    assert ">128</text>" not in svg
    assert ">t</text>" in line_plot("t", "x", "y", {"a": [[(0, 0)]]}, logarithmic=True)
    assert ">t</text>" in line_plot("t", "x", "y", {})


def test_axis_puts_round_numbers_in_their_places() -> None:
    linear = Axis(-0.013, 0.21, 0.0, 100.0)
    assert linear.ticks() == [0.0, 0.05, 0.1, 0.15, 0.2]
    assert linear.at(0.21) == pytest.approx(100.0)
    factors = Axis(0.5, 8.0, 400.0, 0.0, logarithmic=True)
    assert factors.ticks() == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert factors.at(2.0) == pytest.approx(200.0)


def test_intervals_lie_around_their_mean() -> None:
    svg = interval_plot("t", "x", ("any", "held"), {"a / b": [(2.0, 1.0, 4.0), (1.0, 1.0, 1.0)]})
    assert svg.count("<circle") == 4  # two dots, and two that say what they are
    assert ">a / b<" in svg
    assert ">held<" in svg
    assert all(f">{tick}</text>" in svg for tick in (1, 2, 4))
