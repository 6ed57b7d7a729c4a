"""Writes what the raw records say: learn.json, plots, and the tables of the docs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import records
from .large_sample import FOLDER
from .plots import plots
from .summary import summarize
from .tables import TABLES, agreement_table, short_table

REPO = Path(__file__).parent.parent.parent
DOCS = (
    REPO / "README.md",
    *(REPO / "docs" / name for name in ("credit.md", "learning.md", "learning_tables.md")),
)


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
