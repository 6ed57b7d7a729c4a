"""Which learning rate and batch a method runs with: decided by tuning seeds only."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .cells import GAINS, key_of
from .methods import METHODS
from .statistics import images_to_gain

REALISM = 1.25
"""A gain counts while the Frechet distance stays within this factor of its start."""

FACES = 0.9
"""... and this share of the start's valid faces is kept."""

RIVALS = ("ddpo_improved", "ddpo", "pxpo")
"""What `default` is compared with, each at its own best."""

Settings = dict[tuple[str, str], tuple[float, int]]


def holds(start: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether pictures are as good as at the start, within the protocol's slack."""
    # One picture again and again has no distance to portraits in general.
    real = now["frechet"] is None or now["frechet"] <= REALISM * start["frechet"]
    return bool(real and now["valid"] >= FACES * start["valid"])


def gain_kept(record: Mapping[str, Any]) -> float:
    """The largest gain at which the pictures still hold; 0 if none does."""
    start, *later = record["evaluations"]
    return max((float(e["gain"]) for e in later if holds(start, e)), default=0.0)


def curve_of(record: Mapping[str, Any]) -> tuple[list[tuple[int, float]], list[bool]]:
    """(images, gain) of every evaluation, and whether the pictures held there."""
    evaluations = record["evaluations"]
    curve = [(e["images"], e["gain"]) for e in evaluations]
    return curve, [holds(evaluations[0], e) for e in evaluations]


def chosen_settings(records: Iterable[Mapping[str, Any]]) -> Settings:
    """(task, method) -> (rate, batch) that reaches the gains from the fewest images, pictures held.

    The larger gain decides, then the smaller one, then the largest gain kept. Only settings tried
    on as many seeds as the best-tried one of that method compete.
    """
    found: dict[tuple[str, str], dict[tuple[float, int], list[Mapping[str, Any]]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for record in records:
        cell = key_of(record)
        if cell.tuning:
            found[cell.task, cell.method][cell.rate, cell.batch].append(record)
    settings: Settings = {}
    for (task, method), tried in found.items():
        most = max(len(seeds) for seeds in tried.values())
        ranks = {s: _rank(task, seeds) for s, seeds in tried.items() if len(seeds) == most}
        settings[task, method] = min(ranks, key=lambda s: (*ranks[s], s[0]))
    return settings


def _images(record: Mapping[str, Any], gain: float) -> int | None:
    curve, held = curve_of(record)
    return images_to_gain(curve, gain, held)


def _rank(task: str, records: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    """Smaller is better: per gain, larger first, the seeds that miss it and the images to it."""
    rank: list[float] = []
    for gain in reversed(GAINS[task]):
        counts = [_images(record, gain) for record in records]
        reached = [math.log(count) for count in counts if count is not None]
        rank += [float(counts.count(None)), sum(reached) / max(1, len(reached))]
    return (*rank, -sum(gain_kept(record) for record in records) / len(records))


def setting_for(chosen: Settings, task: str, method: str) -> tuple[float, int] | None:
    """The method's own setting; what was not tuned runs as the method that it is a change of.

    Rivals are tuned or do not run. Marking like instead of dislike is the same task turned round:
    it has no tuning of its own.
    """
    task = task.removesuffix("_like")
    if (task, method) in chosen:
        return chosen[task, method]
    base = METHODS[method].base
    return None if method == base or method in RIVALS else setting_for(chosen, task, base)


def at_an_edge(rate: float, tried: Iterable[float]) -> bool:
    """Whether a chosen rate is the smallest or largest that was tried: the grid must grow."""
    rates = sorted(set(tried))
    return rate in (rates[0], rates[-1])
