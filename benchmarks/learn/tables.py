"""The tables of the docs, in Markdown: pure functions of the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .cells import GAINS
from .methods import OURS, in_order, suffix
from .statistics import mean_interval
from .summary import QUALITIES

SHORT = (OURS, "ddpo_improved", "ddpo")
"""The methods of the README's table."""


def final_table(task: str, table: Mapping[str, Any]) -> str:
    """Images to each gain at held quality, per seed, and what became of the pictures."""
    gains = [f"{gain:.2f}" for gain in GAINS[task]]
    columns = [
        "method",
        "rate, batch",
        "seeds",
        *(f"images to {gain}" for gain in gains),
        "gain at the end",
        "realism",
        "faces",
        "detail",
        "locality",
    ]
    rows: list[list[str]] = []
    for method in in_order(table):
        entry = table[method]
        if "seeds" not in entry:
            continue
        counts = [_counts(entry, gain) for gain in gains]
        measured = [_mean(entry[key]) for key in ("realism", "faces", "detail", "locality")]
        setting = f"{entry['learning_rate']:g}, {entry['batch']}"
        seeds = str(len(entry["seeds"]))
        rows.append([f"`{method}`", setting, seeds, *counts, _interval(entry["gain"]), *measured])
    return _table(columns, rows, "No final cells yet.")


def _counts(entry: Mapping[str, Any], gain: str) -> str:
    """Images per seed at held quality; in brackets, where they differ, at any quality."""
    shown = []
    for held, regardless in zip(
        entry["images_to_gain"][gain], entry["images_to_gain_at_any_quality"][gain], strict=True
    ):
        text = "never" if held is None else str(held)
        shown.append(text if held == regardless else f"{text} ({regardless})")
    return ", ".join(shown)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str) -> str:
    """In Markdown; `empty` where there are no rows."""
    lines = [_row(columns), "| --- " * len(columns) + "|", *map(_row, rows)]
    return "\n".join(lines) if rows else empty


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def tuning_table(task: str, table: Mapping[str, Any]) -> str:
    """Every tuning trial; the chosen setting in bold."""
    columns = ["method", "rate", "batch", "seed", "images", "gain", "realism", "faces"]
    rows: list[list[str]] = []
    for method in in_order(table):
        tuned = table[method]["tuning"]
        for trial in tuned["trials"]:
            chosen = (trial["learning_rate"], trial["batch"]) == (
                tuned.get("learning_rate"),
                tuned.get("batch"),
            )
            rate = f"{trial['learning_rate']:g}"
            counts = [str(trial[key]) for key in ("batch", "seed", "images")]
            measured = [f"{trial['gain']:.3f}", _mean([trial["realism"]]), f"{trial['faces']:.2f}"]
            setting = [f"`{method}`", f"**{rate}**" if chosen else rate]
            rows.append([*setting, *counts, *measured, f"{trial['gain_held']:.3f}"])
    return _table([*columns, "largest gain held"], rows, "No tuning cells yet.")


def ratio_table(_task: str, table: Mapping[str, Any]) -> str:
    """Images a method needs over images that another one needs, and how far from portraits both
    are where the gain is first reached."""
    columns = ["ratio", "gain", "seeds", *QUALITIES, "distance there"]
    rows: list[list[str]] = []
    for name, found in sorted(table.get("ratios", {}).items()):
        for gain in sorted({key.partition(",")[0] for key in found}):
            ratios = [found[f"{gain}, {quality}"] for quality in QUALITIES]
            there = [_mean(table[one]["realism_at_gain"][gain]) for one in name.split(" / ")]
            shown = [_range((r["ratio"], r["low"], r["high"])) for r in ratios]
            rows.append([name, gain, str(ratios[0]["seeds"]), *shown, ", ".join(there)])
    return _table(columns, rows, "No ratios yet.")


def short_table(summary: Mapping[str, Any]) -> str:
    """Images to each gain of the paper's tasks at held quality, per seed."""
    rows: list[list[str]] = []
    for task, words in (("blue", "{:.2f} less blue"), ("hair", "{:.0%} less hair")):
        table = summary.get(task, {})
        for gain in GAINS[task]:
            entries = [table.get(method, {}) for method in SHORT]
            counts = [_counts(e, f"{gain:.2f}") if "seeds" in e else "-" for e in entries]
            rows.append([words.format(gain), *counts])
    return _table(["", *(f"`{method}`" for method in SHORT)], rows, "No final cells yet.")


def agreement_table(found: Mapping[str, Any]) -> str:
    """Mean cosine of independent batches' gradients, per task, credit and step weighting, and that
    of the signal with the judged credit's."""
    weightings = ("exact", "uniform", "denoised")
    rows: list[list[str]] = []
    for task, credits in found.get("cosines", {}).items():
        for credit, cosines in credits.items():
            along = found["directions"][task][credit]["denoised"]
            cells = [_mean([value]) for value in (*map(cosines.get, weightings), along)]
            rows.append([task, credit, *cells])
    return _table(["task", "credit", *weightings, "direction"], rows, "Not measured yet.")


def noise_table(_task: str, table: Mapping[str, Any]) -> str:
    """Gain with spoilt feedback beside the gain without, after as many images."""
    columns = ["feedback", "seeds", "images", "gain without", "gain with (95 %)", "left (95 %)"]
    rows: list[list[str]] = []
    for method, found in table.get("noise", {}).items():
        images = sorted(set(found["images"]))
        kept, least, most = (100.0 * value for value in found["kept"])
        rows.append(
            [
                f"{found['spoilt']:.0%} {found['feedback']}{suffix(method)}",
                str(len(found["seeds"])),
                f"{images[0]}" if len(images) == 1 else f"{images[0]} to {images[-1]}",
                _mean(found["clean_gain"]),
                _range(found["gain_interval"]),
                f"{kept:.0f} % ({least:.0f} to {most:.0f})",
            ]
        )
    return _table(columns, rows, "No cells with spoilt feedback yet.")


def front_table(_task: str, table: Mapping[str, Any]) -> str:
    """The distance at which each gain is reached, and how much further that is than ours."""
    columns = ["method", "gain", "seeds", "realism there", "minus `default`'s", "pairs"]
    rows: list[list[str]] = []
    for method in in_order(table.get("front", {})):
        for gain, found in sorted(table["front"][method].items()):
            cells = [f"`{method}`", gain, str(len(found["seeds"])), _range(found["realism"])]
            rows.append([*cells, _range(found["above_default"]), str(found["pairs"] or "-")])
    return _table(columns, rows, "No gain reached yet.")


def _range(interval: Sequence[float]) -> str:
    if not interval:
        return "-"
    mean, low, high = interval
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def large_table(_task: str, table: Mapping[str, Any]) -> str:
    """Cells measured in few pictures beside the same cells in many."""
    measures = ["gain", "realism", "faces", "detail", "as prompted, points"]
    columns = ["method", "seed", "images", "pictures", *measures]
    rows: list[list[str]] = []
    for found in table.get("large", []):
        few, many = found["few"], found["many"]
        measured = [
            f"{_mean([few[key]])}, {_mean([many[key]])}" for key in ("realism", "faces", "detail")
        ]
        pictures = f"{few['pictures']}, {many['pictures']}"
        gain = f"{few['gain']:.3f}, {many['gain']:.3f}"
        row = [f"`{found['method']}`", str(found["seed"]), str(found["images"]), pictures, gain]
        rows.append([*row, *measured, _points(many["prompts"])])
    return _table(columns, rows, "No cells looked at in many pictures yet.")


def _points(changes: Mapping[str, float]) -> str:
    """Changes of shares, in percentage points."""
    return ", ".join(f"{field} {100 * change:+.1f}" for field, change in sorted(changes.items()))


TABLES = {
    "final": final_table,
    "tuning": tuning_table,
    "ratios": ratio_table,
    "noise": noise_table,
    "front": front_table,
    "large": large_table,
}


def _interval(values: list[float]) -> str:
    mean, low, high = mean_interval(values)
    return f"{mean:.3f} ({low:.3f} to {high:.3f})"


def _mean(values: list[float | None]) -> str:
    known = [v for v in values if v is not None]
    return f"{sum(known) / len(known):.2f}" if known else "-"
