"""Heatmaps: colours mean what the legend says."""

import pytest
import torch

from pxpo_core.heatmap import SMALLEST, overlay

GREY = torch.full((2, 300, 280, 3), 0.5)


def blueness(colour: torch.Tensor) -> float:
    return float(colour[2] - colour[0])


def test_liked_is_blue_disliked_is_orange_and_zero_is_grey():
    values = torch.zeros((2, 300, 280))
    values[0, :100], values[0, 100:200] = 1.0, -1.0
    result = overlay(GREY, values)
    liked, disliked, neutral = result[0, 50, 5], result[0, 150, 5], result[0, 250, 5]
    assert blueness(liked) > 0.5
    assert blueness(disliked) < -0.5
    assert blueness(neutral) == 0.0
    assert torch.equal(result[1, 50, 5], neutral)


def test_the_scale_is_symmetric_and_shared_by_the_batch():
    values = torch.zeros((2, 300, 280))
    values[0], values[1] = 0.2, -1.0
    result = overlay(GREY, values)
    assert 0.0 < blueness(result[0, 5, 5]) < 0.5 < -blueness(result[1, 5, 5])
    # a stronger colour for a stronger value, however dark the picture is
    strong, weak = (overlay(0.2 * GREY, k * values, scale=1.0)[1, 5, 5] for k in (1.0, 0.5))
    assert strong[0] > weak[0]


def test_the_legend_is_below_and_hides_nothing():
    result = overlay(GREY, torch.ones((2, 300, 280)))
    assert result.shape[2] == 280
    assert result.shape[1] > 300
    bar = result[0, 300 + (result.shape[1] - 300) // 2]
    assert blueness(bar[120]) < 0.0 < blueness(bar[160])


@pytest.mark.parametrize("size", [(8, 8), (64, 96), (256, 256), (700, 40), (1, 2000)])
def test_every_size_gives_a_picture(size):
    result = overlay(torch.rand((1, *size, 3)), torch.randn((1, *size)))
    assert result.dtype == torch.float32
    assert max(result.shape[1:3]) >= SMALLEST
    assert result.min() >= 0.0
    assert result.max() <= 1.0


@pytest.mark.parametrize("value", [0.0, 1e-30, 1e30, -1e-6, 3.0])
def test_every_scale_gives_a_finite_picture(value):
    result = overlay(GREY, torch.full((2, 300, 280), value))
    assert bool(torch.isfinite(result).all())


def test_other_sizes_and_nan_are_refused():
    with pytest.raises(ValueError, match="does not fit"):
        overlay(GREY, torch.zeros((2, 300, 281)))
    with pytest.raises(ValueError, match="bad values"):
        overlay(GREY, torch.full((2, 300, 280), float("nan")))
