"""Training a tiny pipeline without ComfyUI: rounds, resume, rewards, refusals."""

from __future__ import annotations

import logging
import re
import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pxpo_dev.paths import REPO

from pxpo_core.__main__ import launched_as_one
from pxpo_core.run import RunHead, RunMismatchError, RunStore
from pxpo_core.training.config import ConfigError, RewardConfig, SamplingConfig, read_config
from pxpo_core.training.progress import Progress, duration
from pxpo_core.training.rewards import Scorer, load_masks
from pxpo_core.workers import SingleProcess

Program = Callable[..., subprocess.CompletedProcess[str]]
WriteConfig = Callable[..., Path]


def trained(path: Path) -> RunHead:
    from pxpo_core.training.loop import train

    return train(read_config(path), device="cpu")


def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The interrupt hits while round 2 is trained; everything written is equal, bit for bit."""
    from pxpo_core.training import loop

    whole = trained(write_config(run={"name": "whole", "folder": "runs", "seed": 5, "rounds": 2}))
    path = write_config(run={"name": "parts", "folder": "runs", "seed": 5, "rounds": 2})
    update, calls = loop.update_policy, []

    def interrupted(*arguments: Any, **options: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return update(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "update_policy", interrupted)
        with pytest.raises(KeyboardInterrupt):
            trained(path)
    store = RunStore(path.parent / "runs")
    kept = store.head("parts")
    assert kept is not None
    assert kept.round == 1
    caplog.set_level(logging.INFO)
    head = trained(path)
    assert (head.round, whole.round) == (2, 2)
    assert head.policy is not None
    assert whole.policy is not None
    assert head.policy.digest == whole.policy.digest
    for ours, theirs in ((head.optimizer, whole.optimizer), (head.memory, whole.memory)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert [entry["images_total"] for entry in head.history] == [8, 16]
    assert "Round 2 of 2: mean reward" in caplog.text
    assert "rounds 2 to 2, 8 pictures each" in caplog.text
    assert trained(path).round_id == head.round_id  # nothing left to do


def test_sdxl_trains(write_config: WriteConfig) -> None:
    changes = {"model": {"path": "sdxl", "gradient_checkpointing": True}, "run": {"rounds": 1}}
    head = trained(write_config(**changes))
    assert head.round == 1
    assert head.history[0]["grad_norm"] > 0.0


def test_predictions_are_judged_as_the_pictures_are(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each prompt's with its own mask: what the rounds learn from are those rewards."""
    from pxpo_core.backends.diffusers.loading import load_pipeline
    from pxpo_core.backends.diffusers.model import PipelineModel
    from pxpo_core.training import loop

    path = write_config(
        run={"rounds": 1},
        reward={"judge_predictions": True, "masks": "masks", "outside": 0.2},
        update={"objective": "path"},
    )
    (path.parent / "masks").mkdir()
    for name, level in (("a", 0), ("b", 255)):
        Image.fromarray(np.full((6, 4), level, np.uint8)).save(
            path.parent / "masks" / f"{name}.png"
        )
    seen: list[Any] = []

    def watched(*arguments: Any) -> Any:
        seen.append(arguments)
        return round_advantages(*arguments)

    round_advantages = loop.round_advantages
    monkeypatch.setattr(loop, "round_advantages", watched)
    head = trained(path)
    assert head.history[0]["grad_norm"] > 0.0
    _, _, _, _, predicted, judged = seen[0]
    config = read_config(path)
    scorer = Scorer(config.reward, config.sampling)
    decode = PipelineModel(load_pipeline(config.model.path, None, "float32")).decode
    assert (len(predicted), len(judged)) == (2, 2)
    for prompt, (latents, maps) in enumerate(zip(predicted, judged, strict=True)):
        assert latents.shape[:2] == (4, 4)  # three steps with noise, and the finished pictures
        assert maps.shape == (3 * 4, 48, 32)
        wanted = [scorer(decode(latent), [prompt] * 4) for latent in latents[:-1]]
        torch.testing.assert_close(maps, torch.cat(wanted))


def test_ways_to_credit_steps_are_different_trainings(write_config: WriteConfig) -> None:
    def norm(name: str, reward: dict[str, Any], update: dict[str, Any]) -> float:
        head = trained(write_config(run={"name": name, "rounds": 1}, reward=reward, update=update))
        return float(head.history[0]["grad_norm"])

    path: dict[str, Any] = {"objective": "path"}
    pictures, plain = norm("pictures", {}, {}), norm("plain", {}, {"stepwise": False})
    fitted, off = norm("fitted", {}, path), norm("off", {}, {**path, "stepwise": False})
    judged = norm("judged", {"judge_predictions": True}, path)
    assert min(pictures, plain, fitted, off, judged) > 0.0
    assert len({pictures, plain, fitted, off, judged}) == 5
    with pytest.raises(ConfigError, match=r"judge_predictions .* stepwise = true"):
        norm("neither", {"judge_predictions": True}, {**path, "stepwise": False})


def test_a_run_of_another_model_or_lora_is_refused(write_config: WriteConfig) -> None:
    head = trained(write_config(run={"rounds": 1}))
    with pytest.raises(RunMismatchError, match="r = 2, not 3"):
        trained(write_config(lora={"r": 3}))
    with pytest.raises(RunMismatchError, match="another model"):
        trained(write_config(model={"path": "sdxl"}))
    again = RunStore(write_config().parent / "runs").head(head.name)
    assert again is not None
    assert again.round_id == head.round_id


def test_sizes_the_model_cannot_have_are_refused(write_config: WriteConfig) -> None:
    with pytest.raises(ConfigError, match="width must be a multiple of 8, got 36"):
        trained(write_config(sampling={"width": 36}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling": {"images_per_prompt": 1, "prompts": ["a cat"]}}, "1 pictures for 2 proc"),
        ({"update": {"credit_growth": 0.5}}, "credit_growth .* in one process only"),
    ],
)
def test_what_two_processes_cannot_do(
    changes: dict[str, Any], words: str, write_config: WriteConfig
) -> None:
    from pxpo_core.training.loop import train

    class Two(SingleProcess):
        count = 2

    with pytest.raises(ConfigError, match=words):
        train(read_config(write_config(**changes)), Two())


def test_a_reward_that_prefers_nothing_stops_the_training(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pxpo_core.training.loop import NothingToLearnError

    (write_config().parent / "flat_reward.py").write_text(
        "def score(images, prompts):\n    return images[..., 0] * 0 + 1\n", encoding="utf-8"
    )
    monkeypatch.syspath_prepend(write_config().parent)
    path = write_config(reward={"rule": "function", "function": "flat_reward:score"})
    with pytest.raises(NothingToLearnError, match="Round 1: every picture got the same reward"):
        trained(path)


def test_what_was_learned_before_there_was_nothing_more_to_learn_is_exported(
    write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pxpo_core.training.loop import NothingToLearnError

    (write_config().parent / "sated_reward.py").write_text(
        "calls = []\n"
        "def score(images, prompts):\n"
        "    calls.append(1)\n"
        "    return images[..., 0] * (len(calls) == 1)\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(write_config().parent)
    path = write_config(
        run={"rounds": 3, "export": "made"},
        reward={"rule": "function", "function": "sated_reward:score"},
    )
    with pytest.raises(NothingToLearnError, match=r"Round 2: .* set another \[run\] seed"):
        trained(path)
    assert len(list((path.parent / "made").glob("*.safetensors"))) == 1


def test_the_example_of_the_documentation_runs(workplace: Path) -> None:
    """As it is, but for the size of the pictures and the length of the training."""
    from pxpo_core.training.loop import train

    text = (REPO / "docs" / "library.toml").read_text(encoding="utf-8")
    quick = {"rounds": 1, "steps": 4, "width": 32, "height": 32, "images_per_prompt": 2}
    for field, value in quick.items():
        text, changed = re.subn(rf"(?m)^{field} = \d+", f"{field} = {value}", text)
        assert changed == 1, field
    (workplace / "models").mkdir()
    (workplace / "models" / "sd15").symlink_to(workplace / "sd15")
    (workplace / "library.toml").write_text(text, encoding="utf-8")
    config = read_config(workplace / "library.toml")
    head = train(config, device="cpu")
    assert head.round == 1
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(config.model.path, local_files_only=True)
    pipeline.load_lora_weights(str(workplace / "loras" / f"{head.name}_r0001.safetensors"))
    loaded = {name for name, _ in pipeline.unet.named_modules() if name.endswith("lora_A")}
    assert head.policy is not None
    assert len(loaded) == len(head.policy.layers)
    guide = (REPO / "docs" / "library.md").read_text(encoding="utf-8")
    assert "python -m pxpo_core train" in guide
    for table in fields(config):
        for spec in fields(getattr(config, table.name)):
            assert f"`{spec.name}`" in guide, f"docs/library.md does not explain {spec.name}"


# rewards


IMAGES = torch.rand((2, 8, 6, 3), generator=torch.Generator().manual_seed(0))


def sampling(*prompts: str) -> SamplingConfig:
    return SamplingConfig(prompts=prompts, width=48, height=64)


@pytest.mark.parametrize("kind", ["16 bit", "transparent", "small", "grey"])
def test_masks_mean_what_they_show(tmp_path: Path, kind: str) -> None:
    """Whatever the file: white is 1, half grey a half, black and transparent 0, in its own size."""
    levels = np.tile(np.array([0, 128, 255], np.uint8).repeat(16), (64, 1))
    picture = Image.fromarray(levels)
    if kind == "16 bit":
        picture = Image.fromarray(levels.astype(np.uint16) * 257)
    if kind == "transparent":
        white = Image.fromarray(np.full_like(levels, 255))
        picture = Image.merge("RGBA", (white, white, white, picture))
    if kind == "small":
        (tmp_path / "a").mkdir()
        Image.fromarray(levels[:8, ::16]).save(tmp_path / "a.png")  # comes first
    picture.save(tmp_path / "b.png")
    prompts = 2 if kind == "small" else 1
    found = load_masks(tmp_path, prompts, (64, 48))
    assert found.shape == (prompts, 64, 48)
    torch.testing.assert_close(
        found[-1], torch.from_numpy(levels / 255.0).float(), atol=3e-3, rtol=0
    )


def test_masks_are_one_for_all_or_one_for_each_prompt(tmp_path: Path) -> None:
    for name, level in (("b", 255), ("a", 0)):
        Image.fromarray(np.full((4, 3), level, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no mask", encoding="utf-8")
    config = RewardConfig(rule="channel level", channel="red", direction="more", masks=tmp_path)
    maps = Scorer(config, sampling("x", "y"))(IMAGES, [1, 0])
    torch.testing.assert_close(maps[0], IMAGES[0, ..., 0])
    assert not maps[1].any()
    one = replace(config, masks=tmp_path / "b.png", direction="less", inside=2.0)
    torch.testing.assert_close(Scorer(one, sampling("x"))(IMAGES, [0, 0]), -2.0 * IMAGES[..., 0])
    with pytest.raises(ConfigError, match="2 pictures for 3 prompts"):
        Scorer(config, sampling("x", "y", "z"))
    (tmp_path / "b.png").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match="cannot be read"):
        Scorer(one, sampling("x"))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return images", r"must return a tensor of \[2, 8, 6\], got \[2, 8, 6, 3\]"),
        ("return 3", "got int"),
        ("return images[..., 0] / 0", "bad values"),
    ],
)
def test_functions_that_return_something_else(
    body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"bad_reward_{abs(hash(body))}"
    (tmp_path / f"{module}.py").write_text(f"def f(images, prompts):\n    {body}\n")
    monkeypatch.syspath_prepend(tmp_path)
    scorer = Scorer(RewardConfig(rule="function", function=f"{module}:f"), sampling("x"))
    with pytest.raises(ValueError, match=words):
        scorer(IMAGES, [0, 0])


@pytest.mark.parametrize("name", ["no_such_module_here:f", "math:no_such_function", "math:pi"])
def test_functions_that_are_not_there(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        Scorer(RewardConfig(rule="function", function=name), sampling("x"))


# the command line


def test_the_command_line(write_config: WriteConfig, command: Program) -> None:
    small = {"steps": 2, "images_per_prompt": 2, "width": 16, "height": 16}
    path = write_config(run={"rounds": 1}, sampling=small)
    result = command("-m", "pxpo_core", "train", path)
    assert result.returncode == 0, result.stderr
    assert "Round 1 of 1: mean reward" in result.stderr
    assert result.stdout == ""


def test_a_wrong_configuration_is_said_without_a_traceback(
    write_config: WriteConfig, command: Program
) -> None:
    path = write_config(sampling={"steps": 0})
    result = command("-m", "pxpo_core", "train", path)
    assert result.returncode == 2
    assert result.stderr.strip() == (
        f"{path}: [sampling] steps must lie between 2 and 1000, got 0."
    )


def test_importing_the_core_is_light(command: Program) -> None:
    """Neither torch nor any library of a backend."""
    heavy = ("torch", "diffusers", "transformers", "peft", "accelerate", "comfy")
    code = f"import sys; import pxpo_core; sys.exit(any(name in sys.modules for name in {heavy}))"
    assert command("-S", "-c", code).returncode == 0


def test_several_processes_asked_for_and_one_started() -> None:
    asked = {"ACCELERATE_USE_CPU": "True", "MASTER_ADDR": "127.0.0.1"}
    assert launched_as_one(asked)
    assert not launched_as_one({**asked, "WORLD_SIZE": "2"})
    assert not launched_as_one({"MASTER_ADDR": "127.0.0.1"})
    assert not launched_as_one({})


def test_progress_says_how_much_is_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = [0.0]
    progress = Progress(2, 4, clock=lambda: now[0])
    now[0] = 10.0
    progress.sampling(4, 4, training=2)  # 4 of 10 units
    assert "Round 3 of 4: sampling, step 4 of 4; 0:10 so far, about 0:40 left" in caplog.text
    now[0] = 11.0
    progress.training(1, 2, sampling=4)
    assert len(caplog.records) == 1  # too early for another line
    now[0] = 25.0
    progress.finished("done")
    assert "Round 3 of 4: done; 0:25 so far, about 0:25 left" in caplog.text
    assert duration(3725.4) == "1:02:05"
