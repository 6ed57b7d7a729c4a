"""From evaluation curves to claims: images to a gain, ratios, intervals. Pure functions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

RESAMPLES = 10_000

CLAIM_SEEDS = 5
"""Fewer runs make no claim."""


def images_to_gain(
    curve: Sequence[tuple[int, float]], gain: float, held: Sequence[bool] | None = None
) -> int | None:
    """Images at the first evaluation that reaches `gain` and whose gain the next one confirms.

    curve: (training images, gain on the held-out pictures), rising in images. held: whether the
    pictures were still good enough at each of them; None: they always were. The confirming
    evaluation only confirms the gain. None: never; the last one has no successor.
    """
    good = [True] * len(curve) if held is None else held
    for ((images, value), (_, following)), fine in zip(
        itertools.pairwise(curve), good, strict=False
    ):
        if fine and value >= gain and following >= gain:
            return images
    return None


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b; None where either is unknown or b is 0."""
    return None if a is None or not b else round(a / b, 4)


def value_at_gain(
    gains: Sequence[float], values: Sequence[float | None], gain: float
) -> float | None:
    """What `values` is where `gains` first reaches `gain`, linear between looks; None: never.

    gains, values: one per evaluation, the first one of the untrained model.
    """
    looks = list(zip(gains, values, strict=True))
    for (before, low), (after, high) in itertools.pairwise(looks):
        if before < gain <= after and low is not None and high is not None:
            return low + (high - low) * (gain - before) / (after - before)
    return None


def with_budget(counts: Sequence[int | None], budgets: Sequence[int]) -> list[int]:
    """Images to a gain where "never" counts as one more than was tried."""
    return [b + 1 if c is None else c for c, b in zip(counts, budgets, strict=True)]


def geometric_mean_ratio(
    numerators: Sequence[float], denominators: Sequence[float], paired: bool, seed: int = 0
) -> tuple[float, float, float]:
    """Geometric mean of a/b with its 95 % bootstrap interval over seeds: (mean, low, high).

    paired: the i-th values share a seed and are drawn together; otherwise each side is drawn alone.
    Raises ValueError without values or with values that are not positive.
    """
    if not numerators or not denominators:
        raise ValueError("A ratio needs at least one value on either side.")
    if min(*numerators, *denominators) <= 0:
        raise ValueError("Ratios of images need positive numbers.")
    if paired and len(numerators) != len(denominators):
        raise ValueError(f"{len(numerators)} and {len(denominators)} values cannot be paired.")
    a, b = np.log(np.asarray(numerators, float)), np.log(np.asarray(denominators, float))
    draw = np.random.default_rng(seed)
    first = draw.integers(len(a), size=(RESAMPLES, len(a)))
    second = first if paired else draw.integers(len(b), size=(RESAMPLES, len(b)))
    ratios = a[first].mean(axis=1) - b[second].mean(axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    return math.exp(a.mean() - b.mean()), math.exp(low), math.exp(high)


def mean_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Mean and its 95 % bootstrap interval: (mean, low, high)."""
    array = np.asarray(values, float)
    picks = np.random.default_rng(seed).integers(len(array), size=(RESAMPLES, len(array)))
    low, high = np.quantile(array[picks].mean(axis=1), (0.025, 0.975))
    return float(array.mean()), float(low), float(high)


def ratio_of_means(
    numerators: Sequence[float], denominators: Sequence[float], seed: int = 0
) -> tuple[float, float, float]:
    """mean(a) / mean(b) of paired values with its 95 % bootstrap interval: (ratio, low, high)."""
    a, b = np.asarray(numerators, float), np.asarray(denominators, float)
    picks = np.random.default_rng(seed).integers(len(a), size=(RESAMPLES, len(a)))
    low, high = np.quantile(a[picks].mean(axis=1) / b[picks].mean(axis=1), (0.025, 0.975))
    return float(a.mean() / b.mean()), float(low), float(high)


def by_seed(entry: Mapping[str, Any], key: str) -> dict[int, Any]:
    """One of the figures of a method's entry in the summary, for each of its seeds."""
    return dict(zip(entry.get("seeds", []), entry.get(key, []), strict=True))
