"""Pixel Reward and Combine Pixel Rewards, run as the host runs a node body."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pxpo_dev.comfyui import ComfyUI

ROOT = Path(__file__).resolve().parents[2]
DEFAULTS = {
    "rule": "channel level",
    "channel": "blue",
    "colour": "#3060ff",
    "direction": "less",
    "inside": 1.0,
    "outside": 0.0,
    "normalise": "none",
}


@pytest.fixture(scope="module")
def pack(comfyui: ComfyUI) -> Iterator[str]:
    """The checkout under an odd package name, as a custom node folder may have one."""
    name = "some custom-nodes/pxpo_copy"
    spec = importlib.util.spec_from_file_location(
        name, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    yield name
    for loaded in [entry for entry in sys.modules if entry.startswith(name)]:
        del sys.modules[loaded]


@pytest.fixture
def rewards(pack: str) -> Iterator[ModuleType]:
    with torch.inference_mode():
        yield importlib.import_module(f"{pack}.nodes.pixel_reward")


def run(module: ModuleType, image: torch.Tensor, **changes: Any) -> Any:
    return module.PixelRewardNode.execute(image, **{**DEFAULTS, **changes})


@pytest.fixture
def image() -> torch.Tensor:
    return torch.rand((4, 32, 48, 3), generator=torch.Generator().manual_seed(0))


def test_less_blue_is_scored_shown_and_told(rewards: ModuleType, image: torch.Tensor) -> None:
    output = run(rewards, image)
    reward, preview = output.args
    torch.testing.assert_close(reward.map, -image[..., 2])
    assert preview.shape[0] == 4
    numbers = output.ui["pxpo_reward"][0]
    assert numbers["label"] == "less blue"
    assert numbers["mean"] == pytest.approx(-float(image[..., 2].mean()))
    assert len(numbers["per_image"]) == numbers["images"] == 4
    assert output.ui["text"][0].startswith(f"less blue: mean {numbers['mean']:.3f} ±")
    assert output.ui["text"][0].endswith("(4 images)")
    assert len(output.ui["images"]) == 4
    json.dumps(output.ui)
    assert all(isinstance(value, list) for value in output.ui.values())


@pytest.mark.parametrize(
    ("changes", "label"),
    [
        ({"direction": "more", "channel": "luminance"}, "more luminance in the mask"),
        ({"rule": "colour distance", "colour": "#fff"}, "less like #fff in the mask"),
        ({"rule": "mask", "direction": "more"}, "more of the mask"),
    ],
)
def test_masks_limit_every_rule(
    rewards: ModuleType, image: torch.Tensor, changes: dict[str, str], label: str
) -> None:
    mask = torch.zeros((1, 16, 24))
    mask[:, :8] = 1.0
    reward = run(rewards, image, mask=mask, **changes).args[0]
    assert reward.label == label
    assert reward.map[:, 18:].abs().sum() == 0
    assert reward.map[:, :14].abs().sum() > 0


def test_an_empty_mask_says_that_no_round_will_be_made(
    rewards: ModuleType, image: torch.Tensor
) -> None:
    output = run(rewards, image, mask=torch.zeros((1, 64, 64)))
    assert not output.args[0].marked
    assert "nothing is marked" in output.ui["text"][0]


def test_presses_that_cannot_work_are_refused(rewards: ModuleType) -> None:
    check = rewards.PixelRewardNode.validate_inputs
    assert check(rule="channel level", colour="nonsense") is True
    assert "#RRGGBB" in check(rule="colour distance", colour="nonsense")
    assert "no mask is connected" in check(rule="mask", colour="#fff")
    assert check(rule="mask", colour="#fff", mask=None) is True  # linked: arrives as None
    assert check(rule=None, colour=None) is True  # linked widgets
    assert "one of" in check(rule="magic", colour="#fff")


def test_rewards_are_ordinary_tensors_for_training(
    rewards: ModuleType, image: torch.Tensor
) -> None:
    """What a node makes in inference mode is copied before it meets a gradient."""
    reward = run(rewards, image).args[0]
    with torch.inference_mode(False):
        weight = torch.ones((), requires_grad=True)
        (reward.map.clone() * weight).sum().backward()
        assert weight.grad is not None


def test_combining_adds_and_remembers_what_was_added(
    pack: str, rewards: ModuleType, image: torch.Tensor
) -> None:
    combine = importlib.import_module(f"{pack}.nodes.combine_rewards").CombineRewards
    blue, red = run(rewards, image).args[0], run(rewards, image, channel="red").args[0]
    both = combine.execute(blue, 1.0, red, -0.5, 1.0).args[0]
    torch.testing.assert_close(both.map, blue.map - 0.5 * red.map)
    three = combine.execute(blue, 1.0, red, -0.5, 2.0, blue).args[0]
    torch.testing.assert_close(three.map, 3.0 * blue.map - 0.5 * red.map)
    assert "less blue" in three.label
    with pytest.raises(ValueError, match="not for the same pictures"):
        combine.execute(blue, 1.0, run(rewards, image[:2]).args[0], 1.0, 1.0)
