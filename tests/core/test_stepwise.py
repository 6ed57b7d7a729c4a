"""Credit by step: predictions recovered exactly, values that foresee, parts that add up."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from quick_value import fit_value

from pxpo_core.credit import Baseline, Foresight, leave_one_out
from pxpo_core.rollout import Trajectory, diffuse, draw_noise, sample_trajectory
from pxpo_core.stepwise import (
    CHECKPOINTS,
    checkpoints,
    fitted_credit,
    judged_credit,
    predictions,
    side_by_side,
)

SIGMAS = {"vp": (8.0, 3.0, 1.0, 0.3, 0.0), "flow": (1.0, 0.8, 0.5, 0.2, 0.0)}
SIZE = (6, 8)


def sampled(
    family: str = "vp", batch: int = 3, eta: float = 1.0, scale: float = 1.0, last: float = 0.0
) -> tuple[Trajectory, list[torch.Tensor]]:
    """A trajectory of a made-up model, and the predictions it made."""
    sigmas = (*SIGMAS[family][:-1], last)
    noise = draw_noise((2, *SIZE), len(sigmas), 1, 0, range(batch)).double()
    made: list[torch.Tensor] = []

    def denoise(x: torch.Tensor, sigma: float, samples: object) -> torch.Tensor:
        made.append(torch.tanh(x / (1.0 + sigma)) + 0.1 * x.roll(1, dims=-1))
        return made[-1]

    trajectory = sample_trajectory(
        denoise, sigmas[0] * noise[0], noise[1:], sigmas, family, eta, scale
    )
    return trajectory, made


@pytest.mark.parametrize("family", ["vp", "flow"])
@pytest.mark.parametrize(("eta", "scale"), [(1.0, 1.0), (0.4, 1.0), (1.0, 1.3)])
def test_predictions_are_what_the_model_predicted(family: str, eta: float, scale: float):
    trajectory, made = sampled(family, eta=eta, scale=scale)
    found = predictions(trajectory)
    assert len(found) == len(trajectory.trainable) + 1
    torch.testing.assert_close(found[:-1], torch.stack(made)[trajectory.trainable,])
    assert torch.equal(found[-1], trajectory.x_0)


def test_predictions_of_a_path_that_ends_in_noise():
    trajectory, made = sampled(last=0.1)
    found = predictions(trajectory)
    assert len(found) == 5
    torch.testing.assert_close(found[:-1], torch.stack(made))


def test_a_masked_pixel_shows_the_finished_picture_throughout():
    trajectory, _ = sampled()
    noises = trajectory.noises.clone()
    noises[..., :2] = 0.0
    found = predictions(replace(trajectory, noises=noises))
    assert torch.equal(found[..., :2], trajectory.x_0[..., :2].expand_as(found[..., :2]))
    assert not torch.equal(found[0, ..., 2:], trajectory.x_0[..., 2:])


def test_without_fresh_noise_there_is_only_the_finished_picture():
    trajectory, _ = sampled(eta=0.0)
    assert torch.equal(predictions(trajectory), trajectory.x_0[None])


@pytest.mark.parametrize("trust", [1.0, 0.1])
@pytest.mark.parametrize("batch", [1, 2, 7])
def test_a_step_earns_what_it_changed_and_a_share_of_what_was_not_foreseen(
    batch: int, trust: float
):
    trajectory, _ = sampled(batch=batch)
    made = predictions(trajectory).float()
    rewards = torch.randn((batch, *SIZE), generator=torch.Generator().manual_seed(3))
    without_baseline = leave_one_out if batch > 1 else as_it_is
    everyone = torch.ones(batch, dtype=torch.bool)
    steps, _ = fitted([made], rewards, everyone, without_baseline, trust)
    value = fit_value(made[-1], rewards)
    assert len(steps) == len(made) - 1
    for t, earned in enumerate(steps):
        foreseen = value(made[t + 1]) - value(made[t])
        unexplained = without_baseline(rewards - value(made[-1]))
        torch.testing.assert_close(earned, foreseen + trust * unexplained)


def fitted(
    rounds: list[torch.Tensor],
    rewards: torch.Tensor,
    reviewed: torch.Tensor,
    without_baseline: Baseline,
    trust: float = 1.0,
) -> tuple[torch.Tensor, Foresight]:
    """Credit by the value of these pictures alone."""
    finished = torch.cat([made[-1] for made in rounds])
    value = fit_value(finished[reviewed], rewards[reviewed])
    return fitted_credit(rounds, value, reviewed, trust, rewards, without_baseline)


def as_it_is(maps: torch.Tensor) -> torch.Tensor:
    return maps


def coloured(batch: int = 6, steps: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Predictions that change in one random step each, and a reward read off their channels."""
    generator = torch.Generator().manual_seed(0)
    before = torch.randn((batch, 3, 12, 12), generator=generator)
    after = torch.randn((batch, 3, 12, 12), generator=generator)
    made = torch.stack([before, before, before, after, after, after])[: steps + 1]
    return made, 0.7 * after[:, 0] - 0.3 * after[:, 2]


def test_a_step_that_changed_nothing_earns_next_to_nothing():
    made, reward = coloured()
    everyone = torch.ones(6, dtype=torch.bool)
    steps, _ = fitted([made], 5.0 + reward, everyone, leave_one_out)
    spread = steps.square().mean(dim=(1, 2, 3)).sqrt()
    idle = torch.tensor([0, 1, 3, 4])
    assert float(spread[idle].max()) < 0.05 * float(spread[2])
    change = 0.7 * (made[3] - made[2])[:, 0] - 0.3 * (made[3] - made[2])[:, 2]
    assert torch.corrcoef(torch.stack([steps[2].flatten(), change.flatten()]))[0, 1] > 0.99


def test_pictures_nobody_looked_at_teach_and_earn_nothing():
    made, reward = coloured()
    reviewed = torch.tensor([True, True, True, True, False, False])
    steps, _ = fitted([made], reward, reviewed, as_it_is)
    assert not steps[:, 4:].any()
    spoilt = made.clone()
    spoilt[:, 4:] = 99.0
    again, _ = fitted([spoilt], reward, reviewed, as_it_is)
    assert torch.equal(steps, again)


def test_credit_is_finite_where_everything_is_alike():
    flat = torch.ones((4, 2, 3, 8, 8))
    both = torch.ones(2, dtype=torch.bool)
    steps, _ = fitted([flat], torch.zeros((2, 8, 8)), both, leave_one_out)
    assert bool(steps.isfinite().all())
    assert not steps.any()
    some, _ = fitted([flat], torch.ones((2, 8, 8)), both, leave_one_out)
    assert bool(some.isfinite().all())


def test_rollouts_of_different_lengths_are_filled_up():
    made, reward = coloured()
    short = made[2:, :2]
    rewards, everyone = torch.cat([reward, reward[:2]]), torch.ones(8, dtype=torch.bool)
    steps, _ = fitted([made, short], rewards, everyone, leave_one_out)
    assert steps.shape == (5, 8, 12, 12)
    assert not steps[3:, 6:].any()
    assert side_by_side([torch.ones(2, 1, 2, 2), torch.ones(3, 2, 2, 2)]).sum() == 4 * (2 + 6)


def test_finished_pictures_have_no_path_and_earn_what_noise_hid():
    generator = torch.Generator().manual_seed(1)
    x_0 = torch.randn((6, 3, 12, 12), generator=generator)
    noises = torch.randn((4, 6, 3, 12, 12), generator=generator)
    finished = diffuse(x_0, noises, (8.0, 3.0, 1.0, 0.3, 0.0), "vp")
    made = predictions(finished)
    assert torch.equal(made, x_0[None])
    reward = 0.7 * x_0[:, 0] - 0.3 * x_0[:, 2]
    reviewed = torch.tensor([True] * 5 + [False])
    steps, foresight = fitted([made], reward, reviewed, as_it_is)
    assert len(steps) == 0
    known = foresight.at(x_0, slice(0, 6))
    assert float(known.square().mean().sqrt()) < 0.1, "nothing was hidden"
    hidden = foresight.at(torch.zeros_like(x_0), slice(0, 6))
    assert torch.corrcoef(torch.stack([hidden[:5].flatten(), reward[:5].flatten()]))[0, 1] > 0.99
    assert not hidden[5].any()
    torch.testing.assert_close(foresight.at(torch.zeros_like(x_0[2:4]), slice(2, 4)), hidden[2:4])
    later = foresight.rows(slice(2, 6)).at(torch.zeros_like(x_0[2:4]), slice(0, 2))
    torch.testing.assert_close(later, hidden[2:4])


def test_paths_and_finished_pictures_share_one_value():
    made, reward = coloured()
    both = [made, made[-1:, :2]]
    everyone = torch.ones(8, dtype=torch.bool)
    rewards = torch.cat([reward, reward[:2]])
    steps, foresight = fitted(both, rewards, everyone, leave_one_out)
    assert not steps[:, 6:].any()
    assert foresight.earned.shape == (8, 12, 12)


@pytest.mark.parametrize("elsewhere", [0.0, 0.7])
def test_places_that_tell_no_picture_from_another_earn_nothing(elsewhere: float):
    """The value is never exactly right, and its errors there would be learned from."""
    made, rewards = coloured()
    rewards = rewards.clone()
    rewards[:, :, 4:] = elsewhere
    everyone = torch.ones(len(rewards), dtype=torch.bool)
    steps, foresight = fitted([made], rewards, everyone, leave_one_out)
    credit = foresight.at(made[2], slice(0, len(rewards)))
    for maps in (*steps, credit):
        assert float(maps[..., 4:].abs().max()) < 1e-6
        assert float(maps[..., :4].abs().max()) > 0.01


@given(st.integers(1, 200))
def test_checkpoints_start_at_the_first_step_and_cover_all(steps: int):
    found = checkpoints(steps)
    assert found[0] == 0
    assert len(found) == min(CHECKPOINTS, steps)
    assert list(found) == sorted(set(found))
    assert found[-1] < steps


@settings(max_examples=20)
@given(st.integers(1, 40))
def test_a_judged_credit_adds_up_to_the_rise_of_the_reward(steps: int):
    generator = torch.Generator().manual_seed(steps)
    seen = torch.randn((len(checkpoints(steps)), 2, 3, 3), generator=generator)
    finished = torch.randn((2, 3, 3), generator=generator)
    credit = judged_credit(seen, finished, steps)
    assert credit.shape == (steps, 2, 3, 3)
    starts = [*checkpoints(steps), steps]
    rises = torch.stack([credit[t] for t in starts[:-1]])
    torch.testing.assert_close(rises.sum(dim=0), finished - seen[0])
    for start, end in itertools.pairwise(starts):
        assert torch.equal(credit[start:end], credit[start].expand(end - start, 2, 3, 3))
    assert math.isfinite(float(credit.sum()))
