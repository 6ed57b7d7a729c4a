"""Spoilt feedback and simulated painting do what they claim, and to the share they claim."""

from __future__ import annotations

import pytest
import torch

from benchmarks.learn.brush import paint
from benchmarks.learn.feedback_noise import KINDS, REGION, SHIFT, spoil
from benchmarks.learn.methods import METHODS
from pxpo_core.update_config import UpdateConfig


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def square(batch: int = 1) -> torch.Tensor:
    """-1 on a square of 64 pixels."""
    maps = torch.zeros(batch, 256, 256)
    maps[:, 96:160, 96:160] = -1.0
    return maps


@pytest.mark.parametrize("kind", KINDS)
def test_a_share_of_nothing_changes_nothing(kind: str) -> None:
    maps = torch.randn(3, 256, 256, generator=seeded())
    torch.testing.assert_close(spoil(maps, kind, 0.0, seeded()), maps)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_flips_turn_whole_regions_and_their_share(share: float) -> None:
    maps = torch.rand(200, 256, 256, generator=seeded()) + 0.1
    signs = (spoil(maps, "flip", share, seeded(1)) / maps).round()
    blocks = signs.unflatten(2, (4, REGION)).unflatten(1, (4, REGION)).transpose(2, 3)
    whole = blocks.flatten(3)
    assert (whole == whole[..., :1]).all()
    assert float((whole[..., 0] < 0).float().mean()) == pytest.approx(share, abs=0.03)


def test_half_flipped_feedback_says_nothing_on_average() -> None:
    maps = torch.ones(400, 256, 256)
    mean = spoil(maps, "flip", 0.5, seeded()).mean(dim=0)
    assert float(mean.abs().max()) < 0.2
    assert float(mean.mean()) == pytest.approx(0.0, abs=0.05)


def test_shift_moves_a_map_and_keeps_its_size() -> None:
    moved = spoil(square(), "shift", 1.0, seeded())
    assert float(moved.sum()) == float(square().sum())
    overlap = float((moved * square()).sum())
    assert overlap == 64 * (64 - SHIFT)


def test_swap_gives_chosen_pictures_the_map_of_another() -> None:
    maps = torch.arange(8.0)[:, None, None].expand(-1, 16, 16).clone()
    swapped = spoil(maps, "swap", 1.0, seeded())[:, 0, 0]
    assert sorted(swapped.tolist()) == list(range(8))
    assert (swapped != torch.arange(8.0)).all()
    torch.testing.assert_close(spoil(maps[:1], "swap", 1.0, seeded()), maps[:1])
    many = torch.arange(400.0)[:, None, None].expand(-1, 2, 2)
    wrong = spoil(many, "swap", 0.25, seeded())[:, 0, 0] != many[:, 0, 0]
    assert 0.2 < float(wrong.float().mean()) < 0.3


def test_dilation_widens_marks_of_either_sign() -> None:
    for sign in (-1.0, 1.0):
        wide = spoil(sign * square().abs(), "dilate", 1.0, seeded())
        assert float(wide.abs().sum()) == 96 * 96
        assert float(wide.sum()) == sign * 96 * 96


@pytest.mark.parametrize(("kind", "share"), [("typo", 0.1), ("flip", 1.5), ("flip", float("nan"))])
def test_nonsense_is_refused(kind: str, share: float) -> None:
    with pytest.raises(ValueError, match="must"):
        spoil(square(), kind, share, seeded())


def test_the_default_trains_as_the_update_node_does() -> None:
    nodes = UpdateConfig(learning_rate=3e-3, micro_batch=16)
    assert METHODS["default"].config(3e-3, 16) == nodes


def test_noise_methods_are_the_default_with_spoilt_feedback() -> None:
    assert METHODS["flip_50"].feedback == "flip"
    assert METHODS["flip_50"].spoilt == 0.5
    assert METHODS["flip_50"].config(1e-3, 16) == METHODS["default"].config(1e-3, 16)
    assert all(name == method.name for name, method in METHODS.items())


def test_brush_marks_most_of_the_part_and_little_else() -> None:
    mask = square(16).abs()
    marks = paint(mask, seeded())
    assert set(marks.unique().tolist()) == {0.0, 1.0}
    hit = float((marks * mask).sum() / mask.sum())
    wrong = float((marks * (1 - mask)).sum() / marks.sum())
    assert 0.6 < hit < 0.98
    assert wrong < 0.45
    assert not torch.equal(marks[0], marks[1])
    assert not paint(torch.zeros(2, 256, 256), seeded()).any()
