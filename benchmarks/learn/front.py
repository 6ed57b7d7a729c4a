"""What a gain costs in realism. Pure functions of the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .methods import OURS
from .statistics import by_seed, mean_interval


def front(table: Mapping[str, Any], gains: Sequence[float]) -> dict[str, Any]:
    """{method: {gain: distance over its start, and how far that is above the default's on the same
    seeds, each as mean and 95 % interval}}, of methods and gains that were reached.

    table: a task's methods as in `summarize`.
    """
    found: dict[str, Any] = {}
    for name in (f"{gain:.2f}" for gain in gains):
        ours = _at_gain(table.get(OURS, {}), name)
        for method, entry in table.items():
            own = _at_gain(entry, name)
            if own:
                pairs = sorted(set(own) & set(ours)) if method != OURS else []
                found.setdefault(method, {})[name] = {
                    "realism": _interval(list(own.values())),
                    "seeds": sorted(own),
                    "above_default": _interval([own[seed] - ours[seed] for seed in pairs]),
                    "pairs": len(pairs),
                }
    return found


def _interval(values: Sequence[float]) -> list[float]:
    return [round(value, 3) for value in mean_interval(values)] if values else []


def _at_gain(entry: Mapping[str, Any], name: str) -> dict[int, float]:
    """Seed -> distance over its start at the gain, of the seeds that reached it."""
    seen = by_seed({**entry, **entry.get("realism_at_gain", {})}, name)
    return {seed: value for seed, value in seen.items() if value is not None}
