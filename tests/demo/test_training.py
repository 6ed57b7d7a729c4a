"""The training command: two short runs with the same seed write the same bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from demo.toy_faces.training.common import trapezoid, warmup_cosine
from demo.toy_faces.weights_io import METADATA_FILE, WEIGHT_FILES

ROOT = Path(__file__).parents[2]


def train(comfyui: Path, work: Path, out: Path) -> None:
    command = [sys.executable, "-m", "demo.toy_faces.train", "--scale", "0.00001"]
    command += ["--comfyui", str(comfyui), "--work", str(work), "--out", str(out)]
    environment = {**os.environ, "GOMP_SPINCOUNT": "0"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=600)


@pytest.mark.slow
def test_short_runs_are_bit_identical(comfyui_checkout: Any, tmp_path: Path) -> None:
    root = comfyui_checkout.root
    for name in ("first", "second"):
        train(root, tmp_path / f"{name}-work", tmp_path / name)
    for name in WEIGHT_FILES:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    assert (tmp_path / "first" / METADATA_FILE).is_file()


def test_learning_rate_schedules_rise_hold_and_fall() -> None:
    assert trapezoid(0, 1000, 100) == pytest.approx(0.01)
    assert trapezoid(500, 1000, 100) == 1.0
    assert trapezoid(850, 1000, 100) == pytest.approx(0.51)
    assert warmup_cosine(100, 1000, 100) == pytest.approx(1.0)
    assert warmup_cosine(1000, 1000, 100) == pytest.approx(0.02)
