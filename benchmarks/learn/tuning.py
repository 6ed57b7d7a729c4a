"""Which learning rate and batch a method runs with: decided by tuning seeds only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from .cells import key_of

REALISM = 1.25
"""A gain counts while the Frechet distance stays within this factor of its start."""

FACES = 0.9
"""... and this share of the start's valid faces is kept."""

ABLATED = "default"
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


def chosen_settings(records: Iterable[Mapping[str, Any]]) -> Settings:
    """(task, method) -> (rate, batch) with the largest mean gain kept over the tuning seeds.

    Only settings tried on as many seeds as the best-tried one of that method compete.
    """
    found: dict[tuple[str, str], dict[tuple[float, int], list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for record in records:
        cell = key_of(record)
        if cell.tuning:
            found[cell.task, cell.method][cell.rate, cell.batch].append(gain_kept(record))
    settings: Settings = {}
    for key, tried in found.items():
        most = max(len(gains) for gains in tried.values())
        means = {s: sum(g) / len(g) for s, g in tried.items() if len(g) == most}
        settings[key] = max(means, key=lambda s: (means[s], -s[0]))
    return settings


def setting_for(chosen: Settings, task: str, method: str) -> tuple[float, int] | None:
    """The method's own setting; an ablation that was not tuned runs with the default's.

    Marking like instead of dislike is the same task turned round: it has no tuning of its own.
    """
    task = task.removesuffix("_like")
    if (task, method) in chosen:
        return chosen[task, method]
    own = {"ddpo", "ddpo_improved", "pxpo", ABLATED}
    return None if method in own else chosen.get((task, ABLATED))


def at_an_edge(rate: float, tried: Iterable[float]) -> bool:
    """Whether a chosen rate is the smallest or largest that was tried: the grid must grow."""
    rates = sorted(set(tried))
    return rate in (rates[0], rates[-1])
