"""The DDIM step against other people's formulas: torch, diffusers, Bayes, and the samplers."""

import itertools
import math

import pytest
import torch
from diffusers import DDIMScheduler
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pxpo_core.transition import as_schedule, eps_weight, log_prob, make_step, make_steps

FAMILIES = ("vp", "flow")
PAIRS = {
    "vp": [(14.6, 9.1), (1.0, 0.7), (0.1, 0.03)],
    "flow": [(1.0, 0.9), (0.7, 0.4), (0.2, 0.02)],
}
CASES = [(family, *pair) for family in FAMILIES for pair in PAIRS[family]]


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def level(family: str, sigma: float) -> float:
    return 1.0 - sigma if family == "flow" else 1.0


sigma_pairs = st.tuples(
    st.sampled_from(FAMILIES), st.floats(1e-3, 1.0), st.floats(0.0, 0.999), st.floats(0.0, 1.0)
)


@pytest.mark.parametrize("std", [1e-3, 0.5, 14.0])
def test_log_prob_is_that_of_independent_normals(std):
    x, mean = randn(3, 4, 5, 6), randn(3, 4, 5, 6, seed=1)
    x = mean + std * x
    expected = torch.distributions.Normal(mean, std).log_prob(x).sum(dim=1)
    assert log_prob(x, mean, std).shape == (3, 5, 6)
    torch.testing.assert_close(log_prob(x, mean, std), expected, rtol=1e-12, atol=1e-12)


def test_eta_1_equals_diffusers_ddim_after_the_factor_between_ve_and_vp():
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    scheduler.set_timesteps(12)
    times = scheduler.timesteps.tolist()
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        bar_t, bar_s = scheduler.alphas_cumprod[t].item(), scheduler.alphas_cumprod[s].item()
        step = make_step("vp", math.sqrt(1 / bar_t - 1), math.sqrt(1 / bar_s - 1), 1.0)
        x_vp, eps = randn(2, 4, 3, 3, seed=i), randn(2, 4, 3, 3, seed=100 + i)
        theirs = scheduler.step(eps, t, x_vp, eta=1.0, variance_noise=torch.zeros_like(eps))
        variance = scheduler._get_variance(t, s).item()
        x = x_vp / math.sqrt(bar_t)
        mean = step.mean(x, x - step.sigma_t * eps) * math.sqrt(bar_s)
        torch.testing.assert_close(mean, theirs.prev_sample, rtol=1e-10, atol=1e-10)
        assert step.std * math.sqrt(bar_s) == pytest.approx(math.sqrt(variance), rel=1e-10)


@pytest.mark.parametrize(("family", "sigma_t", "sigma_s"), CASES)
def test_eta_1_is_the_posterior_of_the_forward_process(family, sigma_t, sigma_s):
    """Gaussian conditioning of q(x_s | x_t, x_0), with matrices and no formula of ours."""
    a_t, a_s = level(family, sigma_t), level(family, sigma_s)
    factor = a_t / a_s
    joint = torch.tensor(
        [
            [sigma_s**2, factor * sigma_s**2],
            [factor * sigma_s**2, sigma_t**2],
        ],
        dtype=torch.float64,
    )  # covariance of (x_s, x_t) given x_0; x_t = factor x_s + noise
    x_0, x_t = randn(2, 4, 3, 3), 3.0 * randn(2, 4, 3, 3, seed=1)
    mean = a_s * x_0 + joint[0, 1] / joint[1, 1] * (x_t - a_t * x_0)
    variance = joint[0, 0] - joint[0, 1] ** 2 / joint[1, 1]
    step = make_step(family, sigma_t, sigma_s, 1.0)
    torch.testing.assert_close(step.mean(x_t, x_0), mean, rtol=1e-10, atol=1e-10)
    assert step.std == pytest.approx(float(variance.sqrt()), rel=1e-7)


@pytest.mark.parametrize(("family", "sigma_t", "sigma_s"), CASES)
def test_every_eta_keeps_the_marginal(family, sigma_t, sigma_s):
    """From x_t ~ q(x_t | x_0), x_s ~ q(x_s | x_0): mean a_s x_0, variance sigma_s^2."""
    for eta in (0.0, 0.3, 1.0):
        step = make_step(family, sigma_t, sigma_s, eta)
        x_0 = randn(1, 1, 2, 2)
        torch.testing.assert_close(step.mean(step.a_t * x_0, x_0), step.a_s * x_0)
        assert step.direction**2 + step.std**2 == pytest.approx(sigma_s**2, rel=1e-12)


@pytest.mark.parametrize(("family", "sigma_t", "sigma_s"), CASES)
def test_eta_0_is_the_euler_step(family, sigma_t, sigma_s):
    x, denoised = randn(2, 4, 3, 3), randn(2, 4, 3, 3, seed=1)
    step = make_step(family, sigma_t, sigma_s, 0.0)
    euler = x + (x - denoised) / sigma_t * (sigma_s - sigma_t)
    torch.testing.assert_close(step.mean(x, denoised), euler, rtol=1e-10, atol=1e-10)
    assert step.std == 0.0
    assert not step.is_stochastic


@pytest.mark.parametrize(("sigma_t", "sigma_s"), PAIRS["flow"][1:])
@pytest.mark.parametrize("host_eta", [0.2, 0.6, 1.0])
def test_flow_covers_the_hosts_ancestral_sampler(sigma_t, sigma_s, host_eta):
    """euler_ancestral_RF with eta_h is our step with eta = std_RF / std(1), same z."""
    down = sigma_s * (1.0 + (sigma_s / sigma_t - 1.0) * host_eta)
    c = (1.0 - sigma_s) * down / (1.0 - down)
    std_rf = math.sqrt(sigma_s**2 - c**2)
    x, denoised, z = (randn(2, 4, 3, 3, seed=i) for i in range(3))
    lowered = down / sigma_t * x + (1.0 - down / sigma_t) * denoised
    theirs = (1.0 - sigma_s) / (1.0 - down) * lowered + std_rf * z
    eta = std_rf / make_step("flow", sigma_t, sigma_s, 1.0).std
    step = make_step("flow", sigma_t, sigma_s, eta)
    assert step.std == pytest.approx(std_rf, rel=1e-10)
    assert step.direction == pytest.approx(c, rel=1e-10)  # c^2 + std^2 = sigma_s^2
    torch.testing.assert_close(step.mean(x, denoised) + step.std * z, theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_noise_scale_changes_the_noise_and_not_the_mean(factor):
    plain, scaled = (make_step("flow", 0.7, 0.4, 1.0, n) for n in (1.0, factor))
    x, denoised = randn(1, 2, 3, 3), randn(1, 2, 3, 3, seed=1)
    assert scaled.std == pytest.approx(factor * plain.std)
    assert torch.equal(scaled.mean(x, denoised), plain.mean(x, denoised))


@pytest.mark.parametrize(("family", "sigma_t", "sigma_s"), CASES)
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_gain_is_the_derivative_of_the_mean(family, sigma_t, sigma_s, eta):
    step = make_step(family, sigma_t, sigma_s, eta)
    x, denoised = randn(1, 2, 2, 2), randn(1, 2, 2, 2, seed=1).requires_grad_()
    (gradient,) = torch.autograd.grad(step.mean(x, denoised).sum(), denoised)
    torch.testing.assert_close(gradient, torch.full_like(gradient, step.gain))


@pytest.mark.parametrize(
    ("family", "sigma_t", "sigma_s"), [case for case in CASES if case[1] != 1.0 or case[0] == "vp"]
)
def test_eps_weight_is_the_gain_in_signal_to_noise(family, sigma_t, sigma_s):
    snr_t, snr_s = ((level(family, s) / s) ** 2 for s in (sigma_t, sigma_s))
    weight = eps_weight(make_step(family, sigma_t, sigma_s, 1.0))
    assert weight == pytest.approx(math.sqrt(snr_s / snr_t - 1.0), rel=1e-9)


def test_eps_weight_is_infinite_where_no_signal_is_left():
    assert eps_weight(make_step("flow", 1.0, 0.9, 1.0)) == math.inf


@given(sigma_pairs)
@example(("vp", 2.0**-8, 2.2250738585e-313, 1.0))
@settings(max_examples=300, deadline=None)
def test_moments_are_sane_for_any_schedule(pair):
    family, sigma_t, fraction, eta = pair
    sigma_s = sigma_t * fraction
    step = make_step(family, sigma_t, sigma_s, eta)
    assert 0.0 <= step.std <= sigma_s * (1.0 + 1e-9)
    assert 0.0 <= step.direction <= sigma_s
    assert step.std**2 + step.direction**2 == pytest.approx(sigma_s**2, abs=1e-12)
    assert step.is_stochastic == (step.std > 0.0)
    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    assert bool(torch.isfinite(step.mean(x, -x)).all())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_last_step_is_deterministic_and_gives_the_prediction(family):
    step = make_step(family, 0.3, 0.0, 1.0)
    x, denoised = randn(1, 2, 3, 3), randn(1, 2, 3, 3, seed=1)
    assert not step.is_stochastic
    torch.testing.assert_close(step.mean(x, denoised), denoised)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("vp", 1.0, 1.0, 1.0), "fall"),
        (("vp", 1.0, 2.0, 1.0), "fall"),
        (("vp", 1.0, -0.1, 1.0), "fall"),
        (("vp", math.nan, 0.1, 1.0), "fall"),
        (("vp", 1.0, 0.5, 1.01), "eta"),
        (("vp", 1.0, 0.5, -0.1), "eta"),
        (("vp", 1.0, 0.5, math.nan), "eta"),
    ],
)
def test_impossible_steps_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        make_step(*arguments)


@pytest.mark.parametrize(
    "sigmas", [[1.0], [1.0, 1.0], [0.0, 1.0], [1.0, math.nan, 0.0], [], [3.0, 2.0, 2.5, 0.0]]
)
def test_schedules_that_do_not_fall_are_refused(sigmas):
    with pytest.raises(ValueError, match="fall"):
        as_schedule(torch.tensor(sigmas))


def test_a_schedule_makes_one_step_per_pair():
    sigmas = as_schedule(torch.tensor([3.0, 1.0, 0.5, 0.0]))
    steps = make_steps("vp", sigmas, 0.5)
    assert [(s.sigma_t, s.sigma_s) for s in steps] == [(3.0, 1.0), (1.0, 0.5), (0.5, 0.0)]
    assert [s.is_stochastic for s in steps] == [True, True, False]
