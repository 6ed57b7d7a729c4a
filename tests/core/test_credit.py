"""From reward maps to advantages: means kept, baselines unbiased, blurs honest."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pxpo_core import credit
from pxpo_core.reward import PixelReward
from pxpo_core.round import RewardMemory, round_advantages


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# area average


@pytest.mark.parametrize(
    ("size", "latent"),
    [((64, 64), (8, 8)), ((64, 96), (8, 12)), ((5, 7), (5, 7)), ((10, 10), (4, 4)),
     ((300, 300), (32, 32)), ((33, 65), (8, 16)), ((9, 5), (4, 5)), ((7, 7), (5, 3))],
)  # fmt: skip
def test_area_average_keeps_the_mean_of_what_the_vae_sees(size, latent):
    reward = maps(3, *size)
    result = credit.area_average(reward, latent)
    assert result.shape == (3, *latent)
    seen = reward
    for dim in (0, 1):
        factor = size[dim] // latent[dim]
        rest = size[dim] - factor * latent[dim]
        if rest < factor:  # the VAE crops this much, centrally
            seen = seen.narrow(dim + 1, rest // 2, size[dim] - rest)
    torch.testing.assert_close(result.mean(dim=(1, 2)), seen.mean(dim=(1, 2)), atol=1e-5, rtol=1e-5)


def test_a_mark_lands_on_its_latent_pixel_and_nowhere_else():
    reward = torch.zeros((1, 64, 96))
    reward[0, 16:24, 40:48] = 1.0
    result = credit.area_average(reward, (8, 12))
    assert float(result[0, 2, 5]) == 1.0
    assert float(result.sum()) == 1.0


def test_the_crop_is_central_as_the_vae_crops():
    reward = torch.zeros((1, 69, 64))
    reward[0, 2:10] = 1.0
    result = credit.area_average(reward, (8, 8))
    assert torch.equal(result[0, 0], torch.ones(8))
    assert result[0, 1:].abs().sum() == 0


# baseline


def test_leave_one_out_is_the_mean_of_the_others():
    reward = maps(5, 3, 4)
    for i in range(5):
        others = reward[[j for j in range(5) if j != i]].mean(dim=0)
        torch.testing.assert_close(credit.leave_one_out(reward)[i], reward[i] - others)


def test_the_baseline_of_an_image_does_not_depend_on_its_own_reward():
    reward = maps(5, 3, 4)
    changed = reward.clone()
    changed[2] += 100.0
    difference = credit.leave_one_out(changed) - credit.leave_one_out(reward)
    torch.testing.assert_close(difference[2], torch.full((3, 4), 100.0))


def test_prompt_groups_have_their_own_baseline_from_four_on():
    reward = maps(9, 3, 4)
    groups = [0, 1, 0, 0, 1, 0, 1, 2, 2]
    result = credit.remove_baseline(reward, groups, None)
    first = [0, 2, 3, 5]
    torch.testing.assert_close(result[first], credit.leave_one_out(reward[first]))
    others = [1, 4, 6, 7, 8]
    torch.testing.assert_close(result[others], credit.leave_one_out(reward)[others])


def test_a_batch_of_one_uses_the_running_map():
    reward, running = maps(1, 3, 4), maps(3, 4, seed=1)
    assert torch.equal(credit.remove_baseline(reward, [0], None), reward)
    torch.testing.assert_close(credit.remove_baseline(reward, [0], running), reward - running)


@pytest.mark.parametrize("painted", [True, False])
@pytest.mark.parametrize("batch", [2, 3, 5, 7, 8, 17])
def test_equal_rewards_leave_nothing_to_learn(batch, painted):
    reward = torch.rand((1, 72, 56), generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    for shared in (reward, 1e-3 * reward, reward.clamp(-0.1, 0.7).square()):
        advantage = credit.advantage_map(
            shared.expand(batch, -1, -1),
            (9, 7),
            painted=painted,
            reviewed=torch.ones(batch, dtype=torch.bool),
        )
        assert advantage.is_zero
        assert advantage.strength == 0.0
        # Such a round does not set the run's scale either.
        later = credit.advantage_map(maps(2, 72, 56), (9, 7), run_scale=advantage.run_scale)
        assert later.run_scale == later.rms > 1e-3


def test_one_picture_a_round_with_the_same_marks_leaves_nothing_to_learn():
    memory, reward = RewardMemory(painted=True), maps(1, 72, 56)
    pictures = torch.zeros((1, 9, 7, 3), dtype=torch.uint8)
    for number in range(6):
        one = PixelReward(reward, pictures, "marks", torch.ones(1, dtype=torch.bool), painted=True)
        (advantage,), memory = round_advantages([one], (9, 7), memory, 0.0)
        assert advantage.is_zero == (number > 0)


def test_unreviewed_images_are_worth_nothing_and_do_not_move_the_baseline():
    reward = maps(5, 3, 4)
    reviewed = torch.tensor([True, False, True, True, False])
    result = credit.painted_baseline(reward, reviewed, None)
    assert result[~reviewed].abs().sum() == 0
    torch.testing.assert_close(result[reviewed], credit.leave_one_out(reward[reviewed]))
    nothing = credit.painted_baseline(reward, torch.zeros(5, dtype=torch.bool), None)
    assert nothing.abs().sum() == 0


# credit radius


@pytest.mark.parametrize("radius", [0.0, 0.3, 1.0, 4.0, 100.0, 1e6, math.inf])
def test_blur_keeps_the_mean_and_constants(radius):
    reward = maps(2, 9, 14)
    blurred = credit.blur(reward, radius)
    torch.testing.assert_close(blurred.mean(dim=(1, 2)), reward.mean(dim=(1, 2)))
    torch.testing.assert_close(credit.blur(torch.ones(1, 9, 14), radius), torch.ones(1, 9, 14))


def test_radius_zero_is_no_blur_and_infinity_is_the_mean():
    reward = maps(2, 9, 14)
    assert torch.equal(credit.blur(reward, 0.0), reward)
    mean = reward.mean(dim=(1, 2), keepdim=True).expand_as(reward)
    torch.testing.assert_close(credit.blur(reward, math.inf), mean)


@pytest.mark.parametrize("radius", [0.3, 0.8, 1.5, 3.0])
def test_the_radius_is_the_standard_deviation(radius):
    point = torch.zeros((1, 41, 41))
    point[0, 20, 20] = 1.0
    profile = credit.blur(point, radius)[0].sum(dim=1).double()
    offset = torch.arange(-20, 21, dtype=torch.float64)
    assert float((profile * offset**2).sum()) == pytest.approx(radius**2, rel=1e-3)
    if radius == 3.0:
        gaussian = torch.exp(-(offset**2) / (2 * radius**2))
        torch.testing.assert_close(profile, gaussian / gaussian.sum(), atol=3e-3, rtol=0)


def test_blurs_add_up_as_variances_do():
    reward = maps(1, 12, 10)
    torch.testing.assert_close(
        credit.blur(credit.blur(reward, 1.2), 1.6), credit.blur(reward, 2.0), atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("radius", [0.3, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("where", [(0, 0), (4, 4), (8, 3)])
def test_a_blurred_like_is_nowhere_a_dislike(radius, where):
    point = torch.zeros((1, 9, 9))
    point[0, where[0], where[1]] = 1.0
    blurred = credit.blur(point, radius)
    assert float(blurred.sum()) == pytest.approx(1.0, rel=1e-5)
    assert float(blurred.min()) > -1e-7


# scale


def test_the_first_round_has_rms_one_and_sets_the_scale():
    reward = 0.01 * maps(8, 6, 6)
    first = credit.scale_and_clip(reward, None, painted=False)
    assert float(first.values.square().mean().sqrt()) == pytest.approx(1.0, rel=1e-3)
    assert first.run_scale == pytest.approx(float(reward.square().mean().sqrt()))
    assert first.strength == 1.0


def test_an_exhausted_reward_stops_pushing():
    reward = maps(8, 6, 6)
    scale = credit.scale_and_clip(reward, None, painted=False).run_scale
    later = credit.scale_and_clip(0.1 * reward, scale, painted=False)
    assert float(later.values.square().mean().sqrt()) == pytest.approx(0.1, rel=1e-3)
    assert later.strength == pytest.approx(0.1, rel=1e-3)
    larger = credit.scale_and_clip(10.0 * reward, scale, painted=False)
    assert larger.strength == 1.0
    assert float(larger.values.square().mean().sqrt()) == pytest.approx(1.0, rel=1e-3)


def test_painted_maps_keep_their_own_scale():
    reward = 0.3 * maps(4, 6, 6).clamp(-1, 1)
    assert torch.equal(credit.scale_and_clip(reward, None, painted=True).values, reward)


def test_advantages_are_clipped_at_five():
    reward = torch.zeros((1, 10, 10))
    reward[0, 0, 0] = 1.0
    assert float(credit.scale_and_clip(reward, None, painted=False).values.max()) == credit.CLIP


def test_no_signal_is_zero_and_not_nan():
    for painted in (False, True):
        advantage = credit.scale_and_clip(torch.zeros((2, 4, 4)), None, painted)
        assert advantage.is_zero
        assert advantage.strength == 0.0
        assert not advantage.values.isnan().any()


def test_a_zero_round_does_not_set_the_runs_scale_for_ever():
    zero = credit.scale_and_clip(torch.zeros((2, 4, 4)), None, painted=False)
    after = credit.scale_and_clip(maps(2, 4, 4), zero.run_scale or None, painted=False)
    assert after.strength == 1.0


# the whole chain


def test_an_infinite_radius_is_ddpo():
    """(R - mean R) / std R of the image rewards, constant over each picture."""
    reward = maps(6, 16, 24)
    advantage = credit.advantage_map(reward, (4, 6), credit_radius=math.inf)
    scores = reward.mean(dim=(1, 2)).double()
    ddpo = (scores - scores.mean()) / scores.std(correction=0)
    expected = ddpo.clamp(-5, 5)[:, None, None].expand(6, 4, 6)
    torch.testing.assert_close(advantage.values.double(), expected, atol=1e-4, rtol=1e-4)


def test_equal_rewards_everywhere_are_no_signal():
    assert credit.advantage_map(torch.full((4, 16, 16), 0.5), (2, 2)).is_zero


def test_reward_on_one_latent_pixel_is_an_advantage_only_there():
    reward = torch.zeros((4, 32, 32))
    reward[1, 8:16, 16:24] = 1.0
    values = credit.advantage_map(reward, (4, 4)).values
    elsewhere = torch.ones((4, 4), dtype=torch.bool)
    elsewhere[1, 2] = False
    assert values[:, elsewhere].abs().sum() == 0
    assert values[1, 1, 2] > 0
    assert (values[[0, 2, 3], 1, 2] < 0).all()


@given(
    st.integers(1, 6), st.integers(1, 20), st.integers(1, 20), st.integers(1, 9), st.integers(1, 9),
    st.sampled_from([0.0, 0.5, 3.0, math.inf]), st.booleans(), st.sampled_from([1e-20, 1.0, 1e15]),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_any_sizes_give_bounded_finite_advantages(
    batch, height, width, h, w, radius, painted, size
):
    reward = size * maps(batch, height + h, width + w)
    advantage = credit.advantage_map(reward, (h, w), painted=painted, credit_radius=radius)
    assert advantage.values.shape == (batch, h, w)
    assert bool(torch.isfinite(advantage.values).all())
    assert advantage.values.abs().max() <= credit.CLIP
    assert 0.0 <= advantage.strength <= 1.0


def test_unmarked_pixels_keep_clear_of_every_mark():
    """A mark of either sign frees its latent pixel and two around it for change, nothing else."""
    reward = torch.zeros(2, 64, 80)
    reward[0, 24, 32], reward[0, 25, 33] = 1.0, -1.0  # they cancel in the average
    unmarked = credit.advantage_map(reward, (8, 10)).unmarked
    assert unmarked is not None
    expected = torch.ones(2, 8, 10)
    expected[0, 1:6, 2:7] = 0.0
    torch.testing.assert_close(unmarked, expected)


def test_what_a_person_says_is_held_back_less_than_what_a_rule_says():
    reward = torch.zeros(2, 64, 64)
    reward[:, :8, :8] = -1.0
    rule, person = (credit.advantage_map(reward, (8, 8), painted=p) for p in (False, True))
    assert (rule.hold, person.hold) == (1.0, credit.PAINTED_HOLD)
    assert torch.equal(rule.unmarked, person.unmarked)
    assert rule.rows(slice(1)).hold == credit.joined([rule, rule]).hold == 1.0


@pytest.mark.parametrize(("radius", "reach"), [(0.0, 2), (0.5, 3), (1.5, 4), (math.inf, 100)])
def test_pixels_that_credit_is_spread_to_are_not_unmarked(radius, reach):
    reward = torch.zeros(1, 96, 96)
    reward[0, 4, 4] = -1.0
    advantage = credit.advantage_map(reward, (12, 12), painted=True, credit_radius=radius)
    expected = torch.ones(12, 12, dtype=torch.bool)
    expected[: reach + 1, : reach + 1] = False
    assert torch.equal(advantage.unmarked[0] > 0.0, expected)


def test_pictures_nobody_looked_at_have_no_unmarked_pixels():
    reward, reviewed = torch.zeros(3, 64, 64), torch.tensor([True, False, True])
    reward[0, :8, :8] = 1.0
    unmarked = credit.advantage_map(reward, (8, 8), painted=True, reviewed=reviewed).unmarked
    assert unmarked.any(dim=(1, 2)).tolist() == [True, False, True]


def test_foresight_comes_in_the_units_of_the_advantages():
    reward = maps(6, 16, 16)

    def split(rewards, without_baseline):
        earned = without_baseline(rewards)
        foresight = credit.Foresight(
            lambda d: torch.zeros(len(d), 4, 4), earned, torch.ones(6).bool()
        )
        return earned[None], foresight

    whole = credit.advantage_map(reward, (4, 4), credit_radius=1.5, split=split, run_scale=0.01)
    latents = torch.zeros(6, 2, 4, 4)
    torch.testing.assert_close(whole.foresight.at(latents, slice(0, 6)), whole.values)
    torch.testing.assert_close(whole.by_step[0], whole.values)
    parts = [whole.rows(slice(0, 2)), whole.rows(slice(2, 6))]
    torch.testing.assert_close(parts[1].foresight.at(latents[2:], slice(0, 4)), whole.values[2:])
    torch.testing.assert_close(
        credit.joined(parts).foresight.at(latents, slice(0, 6)), whole.values
    )
