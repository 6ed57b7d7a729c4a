"""Configuration files: what they mean, and errors that name the field and the value."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pxpo_core.training.config import ConfigError, LoRASettings, parse_config, read_config

GOOD: dict[str, dict[str, Any]] = {
    "model": {"path": "models/sd15"},
    "run": {"name": "less_blue"},
    "sampling": {"prompts": ["a cat"]},
    "reward": {"rule": "channel level"},
}


def with_field(table: str, name: str, value: Any) -> dict[str, dict[str, Any]]:
    return {**GOOD, table: {**GOOD.get(table, {}), name: value}}


def test_paths_start_at_the_files_folder(write_config: Callable[..., Path]) -> None:
    path = write_config(run={"name": "x", "folder": "/data/runs", "export": "loras"})
    config = read_config(path)
    assert config.model.path == path.parent / "sd15"
    assert config.run.folder == Path("/data/runs")
    assert config.run.export == path.parent / "loras"
    assert config.sampling.prompts == ("a red house", "a blue cat")
    assert config.update.learning_rate == 1e-2


def test_whole_numbers_serve_as_numbers_and_inf_is_one() -> None:
    assert parse_config(with_field("sampling", "cfg", 7), Path()).sampling.cfg == 7.0
    config = parse_config(with_field("update", "credit_radius", math.inf), Path())
    assert math.isinf(config.update.credit_radius)


def test_rslora_is_a_larger_alpha() -> None:
    plain = LoRASettings(r=16, lora_alpha=8.0, use_rslora=True).core()
    assert plain.lora_alpha == 32.0
    assert plain.scaling == 8.0 / math.sqrt(16)


@pytest.mark.parametrize(
    ("table", "name", "value", "words"),
    [
        ("sampling", "steps", "ten", r"\[sampling\] steps must be a whole number; got 'ten'"),
        ("sampling", "steps", True, "steps must be a whole number; got True"),
        ("sampling", "steps", 1, "steps must lie between 2 and 1000, got 1"),
        ("sampling", "stepz", 4, r"\[sampling\] 'stepz' is not a known field. Did you mean steps"),
        ("sampling", "prompts", "a cat", "prompts must be a list; got 'a cat'"),
        ("sampling", "prompts", [], "at least one prompt"),
        ("sampling", "prompts", [3], "prompts must be a text; got 3"),
        ("sampling", "schedule", "turbo", "schedule must be one of karras, normal; got 'turbo'"),
        ("sampling", "eta", 0.0, "eta must be above 0 and at most 1, got 0.0"),
        ("run", "name", "../evil", "cannot be a run name"),
        ("run", "rounds", 0, "rounds must lie between 1 and 9999, got 0"),
        ("lora", "r", 0, r"\[lora\] r \(rank\) must lie between 1 and 1024, got 0"),
        ("lora", "target_modules", "to_q", "target_modules must be one of .*got 'to_q'"),
        ("update", "learning_rate", -1.0, r"\[update\] learning_rate must be a positive number"),
        ("update", "learning_rate", math.nan, "learning_rate must be a positive number, got nan"),
        ("update", "step_weighting", "all", "step_weighting must be one of uniform, exact"),
        ("reward", "rule", "beauty", "one of channel level, colour distance, function"),
        ("reward", "channel", "teal", "channel must be one of red, green, blue, luminance"),
        ("reward", "colour", "blue", "A colour is written #RRGGBB"),
        ("reward", "rule", "function", 'written "module:function", got \'\''),
        ("reward", "function", "os:getcwd", 'rule must be "function"'),
        ("model", "precision", "int8", "precision must be one of float32, bfloat16, float16"),
        ("model", "path", 3, "path must be a path; got 3"),
        ("colour", "x", 1, "'colour' is not a known field"),
    ],
)  # fmt: skip
def test_errors_name_the_field_and_the_value(table: str, name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_config(with_field(table, name, value), Path())


@pytest.mark.parametrize("function", ["os.system", "os:", ":f", "os:a.b", "os;x:f", "a b:c"])
def test_functions_are_plain_names(function: str) -> None:
    with pytest.raises(ConfigError, match="function must be written"):
        parse_config({**GOOD, "reward": {"rule": "function", "function": function}}, Path())


@pytest.mark.parametrize("normalise", ["batch", "image"])
def test_predictions_and_pictures_are_scored_alike(normalise: str) -> None:
    reward = {**GOOD["reward"], "judge_predictions": True}
    path = {**GOOD, "update": {"objective": "path"}}
    assert parse_config({**path, "reward": reward}, Path()).reward.judge_predictions
    with pytest.raises(ConfigError, match=r'judge_predictions .* objective "path", got .pictures'):
        parse_config({**GOOD, "reward": reward}, Path())
    with pytest.raises(
        ConfigError, match=f'judge_predictions needs normalise "none", got .{normalise}'
    ):
        parse_config({**path, "reward": {**reward, "normalise": normalise}}, Path())


@pytest.mark.parametrize("missing", ["model", "run", "sampling", "reward"])
def test_missing_tables_and_fields_are_named(missing: str) -> None:
    with pytest.raises(ConfigError, match=rf"\[{missing}\] is missing"):
        parse_config({k: v for k, v in GOOD.items() if k != missing}, Path())
    with pytest.raises(ConfigError, match=rf"\[{missing}\] \w+ is missing"):
        parse_config({**GOOD, missing: {}}, Path())


def test_files_that_are_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff= [")
    with pytest.raises(ConfigError, match="not a TOML file"):
        read_config(tmp_path / "bad.toml")
    with pytest.raises(ConfigError, match="must be a table"):
        parse_config({**GOOD, "run": "name"}, Path())
