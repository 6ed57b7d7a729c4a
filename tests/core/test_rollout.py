"""Sampling: whose noise is whose, and what a trajectory remembers."""

import pytest
import torch

from pxpo_core.rollout import draw_noise, finished_pictures, sample_trajectory
from pxpo_core.transition import log_prob

SHAPE = (4, 6, 5)
SIGMAS = {"vp": (14.0, 5.0, 1.0, 0.2, 0.0), "flow": (1.0, 0.8, 0.5, 0.1, 0.0)}


def denoise(x: torch.Tensor, sigma: float, samples: object) -> torch.Tensor:
    return torch.tanh(x / (1.0 + sigma**2) ** 0.5) * 0.8


def rollout(family="vp", eta=1.0, samples=range(3), denoise=denoise, **options):
    noise = draw_noise(SHAPE, 5, 7, 2, list(samples))
    sigmas = SIGMAS[family]
    return sample_trajectory(
        denoise, sigmas[0] * noise[0], noise[1:], sigmas, family, eta, **options
    )


def test_noise_of_a_sample_does_not_depend_on_its_batch():
    together = draw_noise(SHAPE, 3, 5, 1, [0, 1, 2, 3])
    assert torch.equal(draw_noise(SHAPE, 3, 5, 1, [2])[:, 0], together[:, 2])
    assert torch.equal(draw_noise(SHAPE, 3, 5, 1, [3, 1]), together[:, [3, 1]])


def test_a_longer_schedule_keeps_the_earlier_draws():
    assert torch.equal(draw_noise(SHAPE, 9, 5, 1, [0, 4])[:3], draw_noise(SHAPE, 3, 5, 1, [0, 4]))


def test_seed_round_and_sample_each_give_other_noise():
    """Also where a sum or product of the three would be the same."""
    keys = [(s, r, n) for s in (0, 1, 2, 2**63 - 1) for r in (0, 1, 2) for n in (0, 1, 2)]
    draws = [draw_noise((16,), 1, s, r, [n]).flatten() for s, r, n in keys]
    assert len({tuple(d.tolist()) for d in draws}) == len(keys)
    correlation = torch.corrcoef(torch.stack([draw.double() for draw in draws]))
    assert correlation.fill_diagonal_(0.0).abs().max() < 0.95


def test_noise_is_standard_normal():
    noise = draw_noise((4, 64, 64), 2, 0, 0, range(4))
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.01)
    assert float(noise.std()) == pytest.approx(1.0, abs=0.01)


def test_noise_ignores_and_keeps_the_global_generator():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = draw_noise(SHAPE, 2, 0, 0, [0])
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(draw_noise(SHAPE, 2, 0, 0, [0]), first)


@pytest.mark.parametrize("family", ["vp", "flow"])
@pytest.mark.parametrize("eta", [0.4, 1.0])
def test_every_state_follows_from_the_one_before(family, eta):
    trajectory = rollout(family, eta)
    for t, step in enumerate(trajectory.steps[:-1]):
        x, z = trajectory.states[t], trajectory.noises[t]
        mean = step.mean(x, denoise(x, step.sigma_t, None))
        assert torch.equal(mean + step.std * z, trajectory.states[t + 1])
    last = denoise(trajectory.states[-1], trajectory.sigmas[-2], None)
    assert torch.equal(trajectory.x_0, last)
    assert trajectory.noises[-1].abs().sum() == 0
    assert trajectory.trainable == (0, 1, 2)


@pytest.mark.parametrize("family", ["vp", "flow"])
def test_a_samples_path_does_not_depend_on_its_batch(family):
    together, alone = rollout(family), rollout(family, samples=[1])
    assert torch.equal(together.states[:, 1:2], alone.states)
    assert torch.equal(together.x_0[1:2], alone.x_0)


def test_the_ratio_of_the_sampling_policy_to_itself_is_exactly_one():
    trajectory = rollout()
    for t in trajectory.trainable:
        step, x = trajectory.steps[t], trajectory.states[t]
        x_s = trajectory.states[t + 1]
        old, new = (
            log_prob(x_s, step.mean(x, denoise(x, step.sigma_t, None)), step.std) for _ in range(2)
        )
        assert torch.equal((new - old).exp(), torch.ones_like(old))


def test_eta_0_has_nothing_to_train():
    trajectory = rollout(eta=0.0)
    assert trajectory.trainable == ()
    assert trajectory.noises.abs().sum() == 0


def test_a_schedule_that_stops_above_zero_trains_its_last_step():
    noise = draw_noise(SHAPE, 3, 0, 0, [0])
    trajectory = sample_trajectory(denoise, 5 * noise[0], noise[1:], (5.0, 2.0, 1.0), "vp", 1.0)
    assert trajectory.trainable == (0, 1)


def test_progress_sees_every_step_and_the_model_knows_whom_it_denoises():
    seen, asked = [], []

    def model(x, sigma, samples):
        asked.append((sigma, list(samples)))
        return denoise(x, sigma, samples)

    rollout(denoise=model, progress=lambda i, d, x: seen.append((i, d.shape, x.shape)))
    assert seen == [(i, (3, *SHAPE), (3, *SHAPE)) for i in range(4)]
    assert asked == [(sigma, [0, 1, 2]) for sigma in SIGMAS["vp"][:-1]]


def test_a_trajectory_is_not_changed_by_its_inputs():
    noise = draw_noise(SHAPE, 5, 0, 0, [0])
    x = 14 * noise[0]
    trajectory = sample_trajectory(denoise, x, noise[1:], SIGMAS["vp"], "vp", 1.0)
    states, noises = trajectory.states.clone(), trajectory.noises.clone()
    x += 1
    noise += 1
    assert torch.equal(trajectory.states, states)
    assert torch.equal(trajectory.noises, noises)


@pytest.mark.parametrize("family", ["vp", "flow"])
def test_finished_pictures_get_noise_that_is_not_in_them(family: str):
    sigmas = (0.9, 0.5, 0.2, 0.0)
    noise = draw_noise((2, 4, 4), 4, 3, 1, range(2))
    path = sample_trajectory(
        lambda x, sigma, samples: 0.5 * x, noise[0], noise[1:], sigmas, family, 0.7, 1.3
    )
    made = finished_pictures(path, 3, 1, range(2))
    assert made.process == "forward"
    assert torch.equal(made.x_0, path.x_0)
    assert (made.sigmas, made.noise_scale) == (path.sigmas, path.noise_scale)
    for t, step in enumerate(made.steps):
        expected = step.a_t * path.x_0 + 1.3 * step.sigma_t * made.noises[t]
        torch.testing.assert_close(made.states[t], expected)
        assert not torch.equal(made.noises[t], path.noises[t])
    assert not torch.equal(finished_pictures(path, 3, 2, range(2)).noises, made.noises)
    assert finished_pictures(made, 9, 9, range(2)) is made
