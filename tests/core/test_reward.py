"""Reward rules: what a pixel is worth, and what is refused."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pxpo_core import reward


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand((3, 10, 14, 3), generator=torch.Generator().manual_seed(1))


def as_reward(values: torch.Tensor, **changes: object) -> reward.PixelReward:
    images = torch.zeros((*values.shape, 3))
    made = reward.automatic_reward(values, images, "rule")
    return replace(made, **changes)


def test_less_blue_is_minus_the_blue_level(images):
    result = reward.channel_level(images, "blue", "less")
    torch.testing.assert_close(result, -images[..., 2])
    assert result.shape == (3, 10, 14)
    assert result.dtype == torch.float32


@pytest.mark.parametrize(("channel", "index"), [("red", 0), ("green", 1), ("blue", 2)])
def test_more_of_a_channel_is_its_level(images, channel, index):
    assert torch.equal(reward.channel_level(images, channel, "more"), images[..., index])


def test_luminance_of_white_is_one_and_weighs_green_most():
    colours = torch.eye(3).reshape(1, 1, 3, 3)
    red, green, blue = reward.channel_level(colours, "luminance", "more").flatten().tolist()
    assert red + green + blue == pytest.approx(1.0)
    assert green > red > blue


def test_colour_distance_is_one_at_the_colour_and_zero_at_the_opposite_corner():
    images = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]).reshape(1, 1, 2, 3)
    more = reward.colour_distance(images, (0.0, 0.0, 0.0), "more")
    torch.testing.assert_close(more.flatten(), torch.tensor([1.0, 0.0]))
    torch.testing.assert_close(reward.colour_distance(images, (0.0, 0.0, 0.0), "less"), -more)


def test_mask_rule_is_signed_weight_inside_and_outside(images):
    mask = torch.zeros((1, 10, 14))
    mask[:, :5] = 1.0
    result = reward.mask_weight(images, mask, 1.0, -0.5, "less")
    assert torch.equal(result[:, :5], torch.full((3, 5, 14), -1.0))
    assert torch.equal(result[:, 5:], torch.full((3, 5, 14), 0.5))


def test_a_mask_limits_a_colour_rule_to_its_region(images):
    mask = torch.zeros((3, 10, 14))
    mask[1, 2:4, 3:5] = 1.0
    weight = reward.region_weight(images, mask, 1.0, 0.0)
    result = reward.channel_level(images, "blue", "less", weight)
    assert result[0].abs().sum() == 0
    assert torch.equal(result[1, 2:4, 3:5], -images[1, 2:4, 3:5, 2])
    assert int((result != 0).sum()) == 4


def test_a_mask_of_another_size_keeps_its_mean_when_shrunk(images):
    mask = torch.rand((3, 40, 56))
    small = reward.resize_mask(mask, (10, 14))
    torch.testing.assert_close(small.mean(dim=(1, 2)), mask.mean(dim=(1, 2)))


@pytest.mark.parametrize("size", [(5, 7), (20, 7), (5, 28), (1, 1), (23, 31)])
def test_any_mask_size_stays_within_the_range(images, size):
    weight = reward.region_weight(images, torch.rand((3, *size)), 2.0, -1.0)
    assert weight.shape == (3, 10, 14)
    assert weight.min() >= -1.0
    assert weight.max() <= 2.0


@pytest.mark.parametrize("shape", [(10, 14), (1, 10, 14), (3, 1, 10, 14)])
def test_mask_shapes_that_nodes_produce_are_accepted(images, shape):
    assert torch.equal(
        reward.region_weight(images, torch.ones(shape), 0.25, 0.0), torch.full((3, 10, 14), 0.25)
    )


def test_rgba_pictures_count_as_rgb(images):
    rgba = torch.cat([images, torch.zeros_like(images[..., :1])], dim=-1)
    assert torch.equal(
        reward.channel_level(rgba, "red", "more"), reward.channel_level(images, "red", "more")
    )


def test_rules_leave_their_inputs_alone(images):
    before, mask = images.clone(), torch.rand((1, 10, 14))
    kept = mask.clone()
    weight = reward.region_weight(images, mask, 1.0, 0.0)
    reward.normalise(reward.channel_level(images, "blue", "less", weight), "image")
    assert torch.equal(images, before)
    assert torch.equal(mask, kept)


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 10, 14), "2 masks for 3 images"),
        ((3, 2, 10, 14), "must be"),
        ((0, 10, 14), "must be"),
    ],
)
def test_mask_batch_mismatch_is_refused(images, shape, words):
    with pytest.raises(ValueError, match=words):
        reward.region_weight(images, torch.ones(shape), 1.0, 0.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_nan_names_the_input_and_counts_the_values(images, bad):
    mask = torch.zeros((3, 10, 14))
    mask[1, 2, 3] = mask[2, 0, 0] = bad
    with pytest.raises(ValueError, match=r"mask holds 2 bad values .* image 2 of 3"):
        reward.region_weight(images, mask, 1.0, 0.0)
    images[2, 0, 0, 0] = bad
    with pytest.raises(ValueError, match=r"image holds 1 bad values .* image 3 of 3"):
        reward.channel_level(images, "blue", "less")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.zeros((2, 4, 4)), "must be"),
        (torch.zeros((2, 4, 4, 1)), "must be"),
        (torch.zeros((0, 4, 4, 3)), "must be"),
        (torch.zeros((2, 4, 4, 3), dtype=torch.uint8), "floats"),
        (torch.full((2, 4, 4, 3), 255.0), "Divide by 255"),
    ],
)
def test_other_things_than_images_are_refused(value, words):
    with pytest.raises(ValueError, match=words):
        reward.channel_level(value, "blue", "less")


def test_unknown_choices_are_named(images):
    with pytest.raises(ValueError, match="'alpha'"):
        reward.channel_level(images, "alpha", "less")
    with pytest.raises(ValueError, match="'up'"):
        reward.channel_level(images, "blue", "up")
    with pytest.raises(ValueError, match="'rms'"):
        reward.normalise(images[..., 0], "rms")
    with pytest.raises(ValueError, match="inside"):
        reward.region_weight(images, torch.ones((1, 2, 2)), math.inf, 0.0)


def test_normalise_gives_rms_one_over_batch_or_image(images):
    values = images[..., 0] * torch.tensor([0.1, 1.0, 0.0])[:, None, None]
    over_batch = reward.normalise(values, "batch")
    assert float(over_batch.square().mean()) == pytest.approx(1.0)
    torch.testing.assert_close(over_batch[0] / over_batch[0].sum(), values[0] / values[0].sum())
    per_image = reward.normalise(values, "image").square().mean(dim=(1, 2))
    torch.testing.assert_close(per_image, torch.tensor([1.0, 1.0, 0.0]))
    assert torch.equal(reward.normalise(values, "none"), values)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_normalise_survives_values_whose_squares_do_not_fit(size):
    result = reward.normalise(torch.full((1, 2, 2), size), "batch")
    torch.testing.assert_close(result, torch.ones((1, 2, 2)))


def test_combine_is_the_weighted_sum():
    a, b = torch.rand((2, 4, 4)), torch.rand((2, 4, 4))
    total = reward.combine([as_reward(a), as_reward(b)], [1.0, -2.0])
    torch.testing.assert_close(total.map, a - 2.0 * b)
    assert total.label == "rule + -2 x (rule)"
    assert not total.painted
    assert total.reviewed.all()


def test_combine_ignores_what_weighs_nothing_and_what_was_not_reviewed():
    painted = as_reward(torch.ones((2, 4, 4)), painted=True, reviewed=torch.tensor([True, False]))
    rule = as_reward(torch.ones((2, 4, 4)))
    total = reward.combine([painted, rule], [1.0, 0.0])
    assert total.painted
    assert total.reviewed.tolist() == [True, False]
    assert total.map[1].abs().sum() == 0
    mixed = reward.combine([painted, rule], [1.0, 1.0])
    assert not mixed.painted
    assert mixed.map.mean(dim=(1, 2)).tolist() == [2.0, 1.0]
    nothing = reward.combine([painted, rule], [0.0, 0.0])
    assert not nothing.marked


def test_combine_refuses_other_pictures_and_bad_weights():
    a, b = as_reward(torch.ones((2, 4, 4))), as_reward(torch.ones((2, 4, 5)))
    with pytest.raises(ValueError, match="2 images of 4x4 and 2 images of 5x4"):
        reward.combine([a, b], [1.0, 1.0])
    with pytest.raises(ValueError, match="Weight 2"):
        reward.combine([a, a], [1.0, math.nan])
    with pytest.raises(ValueError, match="bad values"):
        reward.combine([a, a], [3e38, 3e38])


def test_marked_looks_at_reviewed_images_only():
    values = torch.zeros((2, 4, 4))
    values[1, 0, 0] = -1.0
    assert as_reward(values).marked
    assert not as_reward(values, reviewed=torch.tensor([True, False])).marked
    assert not as_reward(torch.zeros((2, 4, 4))).marked


@pytest.mark.parametrize(
    "changes",
    [
        {"map": torch.zeros((2, 4, 4), dtype=torch.float64)},
        {"map": torch.zeros((4, 4))},
        {"pictures": torch.zeros((1, 4, 4, 3), dtype=torch.uint8)},
        {"pictures": torch.zeros((2, 4, 4, 3))},
        {"reviewed": torch.ones(3, dtype=torch.bool)},
        {"map": torch.full((2, 4, 4), math.nan)},
    ],
)
def test_a_reward_of_mismatched_parts_cannot_be_made(changes):
    with pytest.raises(ValueError, match=r"reward"):
        as_reward(torch.zeros((2, 4, 4)), **changes)


def test_a_reward_does_not_share_memory_with_its_inputs(images):
    values = torch.zeros((3, 10, 14))
    made = reward.automatic_reward(values, images, "x")
    values += 1.0
    images += 1.0
    assert made.map.abs().sum() == 0
    assert made.pictures.max() <= 255


def test_small_pictures_keep_shape_ratio_and_mean_colour():
    images = torch.rand((2, 256, 512, 3))
    small = reward.small_pictures(images)
    assert small.shape == (2, 64, 128, 3)
    torch.testing.assert_close(
        small.float().mean(dim=(1, 2)) / 255.0, images.mean(dim=(1, 2)), atol=2e-3, rtol=0
    )
    assert reward.small_pictures(torch.rand((1, 3, 900, 3))).shape == (1, 1, 128, 3)
    assert reward.small_pictures(torch.rand((1, 9, 9, 3))).shape == (1, 9, 9, 3)


@pytest.mark.parametrize(
    ("text", "colour"),
    [("#000000", (0, 0, 0)), ("#FFF", (255, 255, 255)), ("#3060ff", (48, 96, 255))],
)
def test_colours_are_parsed(text, colour):
    assert reward.parse_colour(text) == pytest.approx([part / 255.0 for part in colour])


@pytest.mark.parametrize(
    "text",
    ["", "#", "3060ff", "#3060f", "#3060ff\n", " #3060ff", "#3060fg", "#3060ff00", "red", None],
)
def test_other_colours_are_refused(text):
    with pytest.raises(ValueError, match="#RRGGBB"):
        reward.parse_colour(text)


@given(st.text(max_size=12))
@settings(max_examples=200, deadline=None)
def test_parse_colour_gives_three_values_or_refuses(text):
    try:
        colour = reward.parse_colour(text)
    except ValueError:
        return
    assert text[0] == "#"
    assert len(colour) == 3
    assert all(0.0 <= part <= 1.0 for part in colour)
