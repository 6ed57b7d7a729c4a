"""The distance to the base model, against the formula written out."""

from dataclasses import replace

import pytest
import torch

from pxpo_core.drift import path_drift
from pxpo_core.rollout import Trajectory, draw_noise, sample_trajectory

SIGMAS = (8.0, 3.0, 1.0, 0.3, 0.0)


def base(x: torch.Tensor, sigma: float, samples: object = None) -> torch.Tensor:
    return torch.tanh(x / (1.0 + sigma))


def policy(x: torch.Tensor, sigma: float, samples: object = None) -> torch.Tensor:
    return base(x, sigma) + 0.2 * torch.sin(x)


def path(denoise: object, batch: int = 3, eta: float = 1.0) -> Trajectory:
    noise = draw_noise((2, 4, 5), 5, 0, 0, range(batch)).double()
    return sample_trajectory(denoise, 8.0 * noise[0], noise[1:], SIGMAS, "vp", eta)  # type: ignore[arg-type]


@pytest.mark.parametrize("eta", [1.0, 0.5])
@pytest.mark.parametrize("pictures", [1, 2, 9])
def test_drift_is_the_mean_kl_of_the_transitions(eta: float, pictures: int):
    trajectory = path(policy, eta=eta)
    expected = 0.0
    for t in trajectory.trainable:
        step, x = trajectory.steps[t], trajectory.states[t, :pictures]
        gap = step.mean(x, policy(x, step.sigma_t)) - step.mean(x, base(x, step.sigma_t))
        expected += float((gap.square() / (2.0 * step.std**2)).mean())
    found = path_drift(trajectory, lambda work: work(base), pictures)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found > 0.01


def test_the_base_model_has_not_drifted():
    assert path_drift(path(base), lambda work: work(base)) == pytest.approx(0.0, abs=1e-12)


def test_masked_pixels_have_no_part_in_it():
    trajectory = path(policy)
    noises = trajectory.noises.clone()
    noises[..., :3] = 0.0
    spoilt = trajectory.states.clone()
    spoilt[1:, ..., :3] = 50.0
    masked = replace(trajectory, noises=noises, states=spoilt)
    local = path_drift(masked, lambda work: work(base))
    assert local < path_drift(trajectory, lambda work: work(base))
