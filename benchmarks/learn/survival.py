"""What is left of the gain when part of the feedback is wrong. Pure functions of the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .methods import METHODS
from .statistics import by_seed, mean_interval, ratio_of_means

Curve = list[list[float]]


def survival(table: Mapping[str, Any]) -> dict[str, Any]:
    """{method: gains with and without the noise} of every method with spoilt feedback.

    A run ends when its gain is confirmed, so each seed is compared after the largest number of
    training images that both its runs were looked at. table: a task's methods as in `summarize`.
    """
    found = {}
    for method, entry in table.items():
        noisy = by_seed(entry, "curves") if METHODS[method].feedback != "none" else {}
        clean = by_seed(table.get(METHODS[method].base, {}), "curves")
        seeds = sorted(set(noisy) & set(clean))
        if not seeds:
            continue
        pairs = [_compared(clean[seed], noisy[seed]) for seed in seeds]
        without, with_ = [p[1] for p in pairs], [p[2] for p in pairs]
        found[method] = {
            "feedback": METHODS[method].feedback,
            "spoilt": METHODS[method].spoilt,
            "seeds": seeds,
            "images": [int(p[0]) for p in pairs],
            "clean_gain": without,
            "gain": with_,
            "gain_interval": [round(v, 4) for v in mean_interval(with_)],
            "kept": [round(v, 3) for v in ratio_of_means(with_, without)],
        }
    return found


def _compared(clean: Curve, noisy: Curve) -> tuple[float, float, float]:
    """(images, gain without noise, gain with it)."""
    a, b = ({point[0]: point[1] for point in curve} for curve in (clean, noisy))
    images = max(set(a) & set(b))
    return images, a[images], b[images]
