"""Which plots are made of the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .cells import GAINS
from .interval_plot import Interval, interval_plot
from .line_plot import line_plot
from .methods import ANCHOR_SWEEP, METHODS, ONE, OURS, in_order, suffix
from .statistics import CLAIM_SEEDS, by_seed
from .summary import QUALITIES
from .tuning import REALISM, RIVALS

RACED = (*RIVALS, "path", "ddpo_two", "path_two", "attention_only", OURS)
"""Whose curves are drawn, later ones above, each in its own colour: what is a change of one thing
has the plot of ratios, or nothing could be read."""

COLOURED = RACED[::-1]
"""Who has the first colours: ours the first."""

Curves = dict[str, list[list[tuple[float, float]]]]


def plots(summary: Mapping[str, Any]) -> dict[str, str]:
    """File name -> SVG."""
    made: dict[str, str] = {}
    for task, table in summary.items():
        made |= _curve_plots(task, table)
        ratios = _ratios(task, table)
        if ratios:
            made[f"learn_{task}_ratios.svg"] = interval_plot(
                f"{task}: images to a gain of {max(GAINS[task]):.2f}, over those of another method",
                "ratio, 95 % interval; never counts as the budget + 1",
                list(QUALITIES),
                ratios,
            )
        noise = _noise_curves(table)
        if noise:
            made[f"learn_{task}_noise.svg"] = line_plot(
                f"{task}: with part of the feedback spoilt", "% spoilt", "% of the gain left", noise
            )
        anchors = _anchor_curves(table)
        if anchors:
            made[f"learn_{task}_anchor.svg"] = line_plot(
                f"{task}: what an anchor on unmarked pixels keeps",
                "gain",
                "change inside / outside",
                anchors,
            )
    return made


def _curve_plots(task: str, table: Mapping[str, Any]) -> dict[str, str]:
    """Gain by images, and what it costs in realism and in distance from the base model."""
    gain: Curves = {}
    front: Curves = {}
    moved: Curves = {}
    for method in RACED:
        curves = table.get(method, {}).get("curves", [])
        if curves:
            gain[method] = [[(i, g) for i, g, _, _ in curve] for curve in curves]
            front[method] = [
                [(g, f / curve[0][2]) for _, g, f, _ in curve] for curve in curves if curve[0][2]
            ]
            moved[method] = [
                [(k, g) for _, g, _, k in curve] for curve in curves if None not in curve[-1]
            ]
    if not gain:
        return {}
    return {
        f"learn_{task}.svg": line_plot(
            f"{task}: gain on held-out pictures",
            "training images",
            "gain",
            gain,
            GAINS[task],
            logarithmic=True,
            known=COLOURED,
        ),
        f"learn_{task}_realism.svg": line_plot(
            f"{task}: what the gain costs",
            "gain",
            "distance to portraits, over the start's",
            front,
            (1.0, REALISM),
            floor=1.0,
            known=COLOURED,
        ),
        f"learn_{task}_kl.svg": line_plot(
            f"{task}: gain by distance from the base model",
            "KL of a whole path, nats per picture",
            "gain",
            moved,
            known=COLOURED,
        ),
    }


def _ratios(task: str, table: Mapping[str, Any]) -> dict[str, list[Interval | None]]:
    """Of every method with enough seeds over the method that it is a change of, of what is raced
    over the default too, to the task's largest gain, by quality; None where neither got there. What
    stops by itself is no race."""
    rows: dict[str, list[Interval | None]] = {}
    if not GAINS[task]:
        return rows
    gain = f"{max(GAINS[task]):.2f}"
    pairs = [
        (method, base)
        for method in in_order(table)
        for base in dict.fromkeys((METHODS[method].base, OURS))
        if base == METHODS[method].base or method in RACED
    ]
    for method, base in pairs:
        how, name = METHODS[method], f"{method} / {base}"
        found = table.get("ratios", {}).get(name)
        if found is None or how.spoilt or how.auto_stop:
            continue
        by_quality = [found[f"{gain}, {quality}"] for quality in QUALITIES]
        if by_quality[0]["seeds"] < CLAIM_SEEDS:
            continue
        rows[name] = [
            (f["ratio"], f["low"], f["high"])
            if any(any(table[one][key][gain]) for one in (method, base))
            else None
            for f, key in zip(by_quality, QUALITIES.values(), strict=True)
        ]
    return rows


def _noise_curves(table: Mapping[str, Any]) -> Curves:
    """Share of the gain that is left by share of spoilt feedback, per kind, in %."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for method, found in table.get("noise", {}).items():
        line = curves.setdefault(found["feedback"] + suffix(method), [(0.0, 100.0)])
        line.append((100.0 * found["spoilt"], 100.0 * found["kept"][0]))
    return {kind: [sorted(line)] for kind, line in curves.items()}


def _anchor_curves(table: Mapping[str, Any]) -> Curves:
    """(gain, locality) of each seed as the anchor grows, with each number of optimizer steps."""
    curves: Curves = {}
    for steps in ("", ONE):
        sweep = [name + steps for name in ANCHOR_SWEEP if name + steps in table]
        lines: dict[int, list[tuple[float, float]]] = {}
        for method in sorted(sweep, key=lambda m: METHODS[m].anchor):
            gains, local = (by_seed(table[method], key) for key in ("gain", "locality"))
            for seed, gain in gains.items():
                if local[seed] is not None:
                    lines.setdefault(seed, []).append((gain, local[seed]))
        if len(sweep) > 1 and lines:
            curves["anchors" + steps] = list(lines.values())
    return curves
