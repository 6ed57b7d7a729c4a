"""docs/models.md shows the committed results and nothing else."""

from __future__ import annotations

import json

import pytest
from pxpo_dev import models_page

FAMILIES = {"sd15", "sd2v", "sdxl", "edm", "sd3", "flux", "lumina2", "z_image", "qwen_image"}


def test_the_page_is_in_step_with_the_results() -> None:
    page = models_page.PAGE.read_text(encoding="utf-8")
    assert page == models_page.rendered(page), "run: python3 scripts/bench.py models --page"


@pytest.mark.parametrize("path", sorted(models_page.RESULTS.glob("models*.json")), ids=str)
def test_every_family_has_a_row_with_figures_and_limits(path: models_page.Path) -> None:
    rows = json.loads(path.read_text(encoding="utf-8"))["families"]
    assert {row["family"] for row in rows} >= FAMILIES
    assert len({row["family"] for row in rows}) == len(rows)
    for row in rows:
        assert row["checks"].keys() >= {"euler_eta_0", "gradient_error", "lora_file_difference"}
        assert row["pass"] == all(c["figure"] <= c["limit"] for c in row["checks"].values())


def test_another_figure_changes_the_page(monkeypatch: pytest.MonkeyPatch) -> None:
    page = models_page.PAGE.read_text(encoding="utf-8")
    monkeypatch.setitem(models_page._CHECKS, "euler_eta_0", "another title")
    assert models_page.rendered(page) != page
