"""A tiny pipeline on disk, a configuration for it, and the command line as people call it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_pipelines
from pxpo_dev.launch import import_torchvision
from pxpo_dev.paths import REPO

CONFIG: dict[str, dict[str, Any]] = {
    "model": {"path": "sd15"},
    "run": {"name": "less_blue", "folder": "runs", "rounds": 2, "seed": 5},
    "lora": {"r": 2, "lora_alpha": 2.0},
    "sampling": {
        "prompts": ["a red house", "a blue cat"], "images_per_prompt": 4, "width": 32,
        "height": 48, "steps": 4, "cfg": 2.0,
    },
    "reward": {"rule": "channel level", "channel": "blue", "direction": "less"},
    "update": {"learning_rate": 1e-2, "train_steps": 2, "micro_batch": 3},
}  # fmt: skip


def config_with(**changes: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """CONFIG with fields of its tables changed; None leaves a field out."""
    tables = {name: {**values, **changes.pop(name, {})} for name, values in CONFIG.items()}
    tables.update(changes)
    return {
        name: {key: value for key, value in table.items() if value is not None}
        for name, table in tables.items()
    }


def toml(tables: dict[str, dict[str, Any]]) -> str:
    """TOML of tables of texts, numbers, booleans and lists of texts."""

    def text(value: Any) -> str:
        if isinstance(value, list):
            return "[" + ", ".join(map(text, value)) + "]"
        if isinstance(value, bool):
            return str(value).lower()
        return f'"{value}"' if isinstance(value, str) else str(value)

    return "\n".join(
        f"[{name}]\n" + "".join(f"{key} = {text(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


@pytest.fixture(scope="session")
def pipelines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the saved pipelines sd15 and sdxl."""
    import_torchvision()
    folder = tmp_path_factory.mktemp("pipelines")
    for kind, make in tiny_pipelines.KINDS.items():
        make(folder).save_pretrained(folder / kind)
    return folder


@pytest.fixture
def workplace(pipelines: Path, tmp_path: Path) -> Path:
    """A folder for one test, with links to the pipelines."""
    for kind in tiny_pipelines.KINDS:
        (tmp_path / kind).symlink_to(pipelines / kind)
    return tmp_path


@pytest.fixture
def write_config(workplace: Path) -> Callable[..., Path]:
    """write_config(name="x", table={field: value}): a configuration file."""

    def write(name: str = "config.toml", **changes: dict[str, Any]) -> Path:
        path = workplace / name
        path.write_text(toml(config_with(**changes)), encoding="utf-8")
        return path

    return write


@pytest.fixture
def command(workplace: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """command("-m", "pxpo_core", ...): this interpreter, with the repository importable."""

    def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=workplace, env=program_environment(), capture_output=True, text=True,
            timeout=300, check=False,
        )  # fmt: skip

    return call


def program_environment() -> dict[str, str]:
    """Variables of programs that tests start."""
    folders = (REPO, REPO / "scripts", REPO / "tests" / "helpers" / "site")
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, folders)),
        "GOMP_SPINCOUNT": "0",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
