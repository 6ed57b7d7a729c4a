"""Writes what the raw records say: learn.json, plots, and the tables in docs/learning.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import records
from .cells import GAINS
from .large_sample import FOLDER
from .methods import in_order, suffix
from .plots import plots
from .statistics import mean_interval
from .summary import summarize

REPO = Path(__file__).parent.parent.parent
DOCS = (REPO / "docs" / "learning.md", REPO / "README.md")
SHORT = ("default", "ddpo_improved", "ddpo")
"""The methods of the README's table."""


def write_report(results: Path, docs: Sequence[Path] = DOCS) -> int:
    """learn.json and the plots beside it; the tables between the docs' markers."""
    summary = summary_of(results)
    agreement = read_agreement(results)
    (results / "learn.json").write_text(to_json(summary), encoding="utf-8")
    for name, svg in plots(summary).items():
        (results / name).write_text(svg, encoding="utf-8")
    for page in docs:
        text = with_tables(page.read_text(encoding="utf-8"), summary, agreement)
        page.write_text(text, encoding="utf-8")
    print(json.dumps({task: sorted(found) for task, found in summary.items()}))
    return 0


def summary_of(results: Path) -> dict[str, Any]:
    return summarize(all_records(results), all_records(results, FOLDER))


def all_records(results: Path, folder: str = "learn_raw") -> list[dict[str, Any]]:
    return [
        record
        for path in sorted((results / folder).glob("*.jsonl"))
        for record in records.read(path)
    ]


def to_json(summary: Mapping[str, Any]) -> str:
    """Indented, but short lists stay on one line."""
    text = json.dumps(summary, indent=1, sort_keys=True)
    flat = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")
    text = flat.sub(lambda m: "[" + re.sub(r"\s+", " ", m.group(1)) + "]", text)
    return text + "\n"


def read_agreement(results: Path) -> dict[str, Any]:
    """How far gradients agree, or an empty table before it was measured."""
    path = results / "learn_agreement.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def with_tables(text: str, summary: Mapping[str, Any], agreement: Mapping[str, Any]) -> str:
    """The document with everything between `<!-- learn:x -->` and `<!-- /learn -->` rewritten."""

    def fill(match: re.Match[str]) -> str:
        kind, _, task = match.group(1).partition(" ")
        if kind == "agreement":
            body = agreement_table(agreement)
        elif kind == "short":
            body = short_table(summary)
        else:
            body = TABLES[kind](task, summary.get(task, {}))
        return f"<!-- learn:{match.group(1)} -->\n{body}\n<!-- /learn -->"

    return re.sub(r"<!-- learn:([a-z_ ]+) -->.*?<!-- /learn -->", fill, text, flags=re.DOTALL)


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
    rows = [_row(columns), "| --- " * len(columns) + "|"]
    for method in in_order(table):
        entry = table[method]
        if "seeds" not in entry:
            continue
        counts = [_counts(entry, gain) for gain in gains]
        measured = [_mean(entry[key]) for key in ("realism", "faces", "detail", "locality")]
        setting = f"{entry['learning_rate']:g}, {entry['batch']}"
        seeds = str(len(entry["seeds"]))
        rows.append(
            _row([f"`{method}`", setting, seeds, *counts, _interval(entry["gain"]), *measured])
        )
    return "\n".join(rows) if len(rows) > 2 else "No final cells yet."


def _counts(entry: Mapping[str, Any], gain: str) -> str:
    """Images per seed at held quality; in brackets, where they differ, at any quality."""
    shown = []
    for held, regardless in zip(
        entry["images_to_gain"][gain], entry["images_to_gain_at_any_quality"][gain], strict=True
    ):
        text = "never" if held is None else str(held)
        shown.append(text if held == regardless else f"{text} ({regardless})")
    return ", ".join(shown)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def tuning_table(task: str, table: Mapping[str, Any]) -> str:
    """Every tuning trial; the chosen setting in bold."""
    rows = [
        "| method | rate | batch | seed | images | gain | realism | faces | largest gain held |",
        "| --- " * 9 + "|",
    ]
    for method in in_order(table):
        tuned = table[method]["tuning"]
        for trial in tuned["trials"]:
            chosen = (trial["learning_rate"], trial["batch"]) == (
                tuned.get("learning_rate"),
                tuned.get("batch"),
            )
            rate = f"{trial['learning_rate']:g}"
            rows.append(
                f"| `{method}` | {f'**{rate}**' if chosen else rate} | {trial['batch']} | "
                f"{trial['seed']} | {trial['images']} | {trial['gain']:.3f} | "
                f"{_mean([trial['realism']])} | {trial['faces']:.2f} | "
                f"{trial['gain_held']:.3f} |"
            )
    return "\n".join(rows) if len(rows) > 2 else "No tuning cells yet."


def ratio_table(task: str, table: Mapping[str, Any]) -> str:
    """Images a method needs over images that another one needs."""
    rows = ["| ratio | gain | geometric mean | 95 % interval | seeds |", "| --- " * 5 + "|"]
    for name, gains in sorted(table.get("ratios", {}).items()):
        for gain, found in sorted(gains.items()):
            rows.append(
                f"| {name} | {gain} | {found['ratio']:.2f} | {found['low']:.2f} to "
                f"{found['high']:.2f} | {found['seeds']} |"
            )
    return "\n".join(rows) if len(rows) > 2 else "No ratios yet."


def short_table(summary: Mapping[str, Any]) -> str:
    """Images to each gain of the paper's tasks at held quality, per seed."""
    rows = [_row(["", *(f"`{method}`" for method in SHORT)]), "| --- " * (1 + len(SHORT)) + "|"]
    for task, words in (("blue", "{:.2f} less blue"), ("hair", "{:.0%} less hair")):
        table = summary.get(task, {})
        for gain in GAINS[task]:
            entries = [table.get(method, {}) for method in SHORT]
            counts = [_counts(e, f"{gain:.2f}") if "seeds" in e else "-" for e in entries]
            rows.append(_row([words.format(gain), *counts]))
    return "\n".join(rows)


def agreement_table(found: Mapping[str, Any]) -> str:
    """Mean cosine of independent batches' gradients, per task, credit and step weighting, and that
    of the signal with the judged credit's."""
    weightings = ("exact", "uniform", "denoised")
    rows = [_row(["task", "credit", *weightings, "direction"]), "| --- " * 6 + "|"]
    for task, credits in found.get("cosines", {}).items():
        for credit, cosines in credits.items():
            along = found["directions"][task][credit]["denoised"]
            cells = [_mean([value]) for value in (*map(cosines.get, weightings), along)]
            rows.append(_row([task, credit, *cells]))
    return "\n".join(rows) if len(rows) > 2 else "Not measured yet."


def noise_table(_task: str, table: Mapping[str, Any]) -> str:
    """Gain with spoilt feedback beside the gain without, after as many images."""
    columns = ["feedback", "seeds", "images", "gain without", "gain with (95 %)", "left (95 %)"]
    rows = [_row(columns), "| --- " * len(columns) + "|"]
    for method, found in table.get("noise", {}).items():
        images = sorted(set(found["images"]))
        kept, least, most = (100.0 * value for value in found["kept"])
        rows.append(
            _row(
                [
                    f"{found['spoilt']:.0%} {found['feedback']}{suffix(method)}",
                    str(len(found["seeds"])),
                    f"{images[0]}" if len(images) == 1 else f"{images[0]} to {images[-1]}",
                    _mean(found["clean_gain"]),
                    _range(found["gain_interval"]),
                    f"{kept:.0f} % ({least:.0f} to {most:.0f})",
                ]
            )
        )
    return "\n".join(rows) if len(rows) > 2 else "No cells with spoilt feedback yet."


def front_table(_task: str, table: Mapping[str, Any]) -> str:
    """The distance at which each gain is reached, and how much further that is than ours."""
    columns = ["method", "gain", "seeds", "realism there", "minus `default`'s", "pairs"]
    rows = [_row(columns), "| --- " * len(columns) + "|"]
    for method in in_order(table.get("front", {})):
        for gain, found in sorted(table["front"][method].items()):
            cells = [f"`{method}`", gain, str(len(found["seeds"])), _range(found["realism"])]
            rows.append(_row([*cells, _range(found["above_default"]), str(found["pairs"] or "-")]))
    return "\n".join(rows) if len(rows) > 2 else "No gain reached yet."


def _range(interval: Sequence[float]) -> str:
    if not interval:
        return "-"
    mean, low, high = interval
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


def large_table(_task: str, table: Mapping[str, Any]) -> str:
    """Cells measured in few pictures beside the same cells in many."""
    measures = ["gain", "realism", "faces", "detail", "as prompted, points"]
    columns = ["method", "seed", "images", "pictures", *measures]
    rows = [_row(columns), "| --- " * len(columns) + "|"]
    for found in table.get("large", []):
        few, many = found["few"], found["many"]
        measured = [
            f"{_mean([few[key]])}, {_mean([many[key]])}" for key in ("realism", "faces", "detail")
        ]
        pictures = f"{few['pictures']}, {many['pictures']}"
        gain = f"{few['gain']:.3f}, {many['gain']:.3f}"
        row = [f"`{found['method']}`", str(found["seed"]), str(found["images"]), pictures, gain]
        rows.append(_row([*row, *measured, _points(many["prompts"])]))
    return "\n".join(rows) if len(rows) > 2 else "No cells looked at in many pictures yet."


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
