"""docs/models.md from the committed results of `bench.py models`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .paths import REPO

PAGE = REPO / "docs" / "models.md"
RESULTS = REPO / "benchmarks" / "results"
PINNED = RESULTS / "models.json"

_TABLE = re.compile(r"(<!-- (checks|costs) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)

_CHECKS = {
    "euler_eta_0": "eta 0",
    "ancestral_eta_1": "eta 1",
    "noise_left_ratio": "noise left",
    "replay_log_ratio": "replay",
    "replay_log_ratio_single": "replay, one by one",
    "gradient_error": "gradient",
    "gradient_error_checkpointed": "gradient, repeated",
    "lora_file_difference": "LoRA file",
    "host_changes": "host changed",
}
_COSTS = {
    "seconds_per_sampling_step": "sampling step (s)",
    "seconds_per_training_step": "training step (s)",
    "seconds_per_training_step_checkpointed": "repeated (s)",
    "peak_training_megabytes": "training (MB)",
    "peak_training_megabytes_checkpointed": "repeated (MB)",
}


def rendered(page: str) -> str:
    """The page with every table between its marks made anew."""

    def fill(match: re.Match[str]) -> str:
        start, kind, file, end = match.groups()
        rows = json.loads((RESULTS / file).read_text(encoding="utf-8"))["families"]
        table = _check_table(rows) if kind == "checks" else _cost_table(rows)
        return f"{start}{table}\n{end}"

    return _TABLE.sub(fill, page)


def write(page: Path = PAGE) -> None:
    """Render the page in place."""
    page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")


def _check_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [["family", *_CHECKS.values(), "in place", "passes"]]
    for row in rows:
        found = row.get("checks", {})
        figures = [_figure(found[name]["figure"]) if name in found else "" for name in _CHECKS]
        in_place = {True: "yes", False: "no"}.get(row.get("works_in_place", None), "")
        lines.append([row["family"], *figures, in_place, "yes" if row["pass"] else "**no**"])
    limits = next((row["checks"] for row in rows if "checks" in row), {})
    lines.insert(1, ["*limit*", *(_figure(limits[n]["limit"]) for n in _CHECKS if n in limits)])
    lines[1] += [""] * (len(lines[0]) - len(lines[1]))
    return _markdown(lines)


def _cost_table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [["family", "weights", "latent", *_COSTS.values()]]
    for row in rows:
        if "parameters" in row:
            latent = "x".join(map(str, row["latent"]))
            costs = [_figure(row[name]) for name in _COSTS]
            lines.append([row["family"], f"{row['parameters'] / 1e6:.2f} M", latent, *costs])
    return _markdown(lines)


def _figure(value: float) -> str:
    return f"{value:.2g}" if value < 1 else f"{value:.3g}"


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    head, *body = ("| " + " | ".join(line) + " |" for line in lines)
    return "\n".join([head, "|" + " --- |" * len(lines[0]), *body])
