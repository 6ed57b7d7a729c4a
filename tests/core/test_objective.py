"""Losses of one transition: their gradients, their equivalences, and whose pixel is whose."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from pxpo_core import objective
from pxpo_core.transition import eps_weight, log_prob, make_step, make_steps

STEPS = {"vp": make_step("vp", 3.0, 1.7, 1.0), "flow": make_step("flow", 0.8, 0.5, 0.6)}
families = pytest.mark.parametrize("family", list(STEPS))


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Case:
    """A sampled transition and a prediction to differentiate by."""

    def __init__(self, family: str) -> None:
        self.step = STEPS[family]
        self.x, self.z = randn(3, 4, 5, 6), randn(3, 4, 5, 6, seed=1)
        self.denoised = randn(3, 4, 5, 6, seed=2).requires_grad_()
        self.advantage = randn(3, 5, 6, seed=3)
        self.mean_old = self.step.mean(self.x, self.denoised).detach()
        self.x_s = self.mean_old + self.step.std * self.z

    def gradient(self, loss: torch.Tensor) -> torch.Tensor:
        return torch.autograd.grad(loss, self.denoised)[0]

    def stored_noise(self, advantage: torch.Tensor) -> torch.Tensor:
        return objective.stored_noise_loss(self.denoised, self.z, advantage, self.step)

    def ratio(self, advantage: torch.Tensor, clip: float = 0.1) -> torch.Tensor:
        mean = self.step.mean(self.x, self.denoised)
        ratios = objective.log_ratio(mean, self.mean_old, self.z, self.step.std)
        return objective.ratio_loss(ratios, advantage, clip)

    def policy_gradient(self, advantage: torch.Tensor) -> torch.Tensor:
        mean = self.step.mean(self.x, self.denoised)
        return -(advantage * log_prob(self.x_s, mean, self.step.std) / 4).mean()


@families
def test_stored_noise_form_is_the_gradient_of_the_log_prob(family):
    case = Case(family)
    expected = case.gradient(case.policy_gradient(case.advantage))
    result = case.gradient(case.stored_noise(case.advantage))
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


@families
def test_ratio_form_has_the_same_gradient_at_ratio_one(family):
    case = Case(family)
    result = case.gradient(case.ratio(case.advantage))
    expected = case.gradient(case.stored_noise(case.advantage))
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-12)


@families
@pytest.mark.parametrize("form", ["stored_noise", "ratio"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_reward_on_one_latent_pixel_weights_only_its_log_prob(family, form, sign):
    case = Case(family)
    advantage = torch.zeros_like(case.advantage)
    advantage[1, 2, 3] = sign
    gradient = case.gradient(getattr(case, form)(advantage))
    expected = torch.zeros_like(gradient)
    expected[1, :, 2, 3] = gradient[1, :, 2, 3]
    assert torch.equal(gradient, expected)
    assert gradient[1, :, 2, 3].abs().min() > 0


@families
def test_one_number_per_image_is_ddpo(family):
    """A constant map weights the picture's whole log-prob, as DDPO's scalar does."""
    case = Case(family)
    scores = randn(3, seed=7)
    mean = case.step.mean(case.x, case.denoised)
    whole = log_prob(case.x_s, mean, case.step.std).mean(dim=(1, 2)) / 4
    ddpo = case.gradient(-(scores * whole).mean())
    maps = scores[:, None, None].expand(3, 5, 6)
    torch.testing.assert_close(case.gradient(case.stored_noise(maps)), ddpo)


@families
def test_log_ratio_is_the_difference_of_log_probs(family):
    case = Case(family)
    mean_new = case.mean_old + 0.3 * case.step.std * randn(3, 4, 5, 6, seed=9)
    std = case.step.std
    expected = (log_prob(case.x_s, mean_new, std) - log_prob(case.x_s, case.mean_old, std)) / 4
    result = objective.log_ratio(mean_new, case.mean_old, case.z, std)
    torch.testing.assert_close(result, expected, rtol=1e-9, atol=1e-11)


def test_the_ratio_of_equal_means_is_exactly_one():
    mean, z = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 5, 6)
    ratios = objective.log_ratio(mean, mean.clone(), z, 0.01).exp()
    assert torch.equal(ratios, torch.ones(2, 5, 6))


def test_the_log_ratio_is_limited():
    far = torch.full((1, 4, 2, 2), 100.0)
    result = objective.log_ratio(far, -far, torch.ones_like(far), 1e-3)
    assert torch.equal(result, torch.full((1, 2, 2), -objective.LOG_RATIO_LIMIT))


def test_the_clip_of_a_pixel_is_ddpos_times_the_root_of_the_pixel_count():
    assert objective.clip_range(torch.zeros(3, 16, 25)) == pytest.approx(1e-4 * 20)
    assert objective.clip_range(torch.zeros(3, 1, 1)) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("advantage", "ratio", "pushes"),
    [(1.0, 1.05, True), (1.0, 1.2, False), (1.0, 0.8, True),
     (-1.0, 0.95, True), (-1.0, 0.8, False), (-1.0, 1.2, True), (-1.0, 5.0, False)],
)  # fmt: skip
def test_clipping_stops_only_what_goes_too_far(advantage, ratio, pushes):
    """The last case is the dual clip: a large ratio with A < 0 has no bound otherwise."""
    ratios = torch.full((1, 1, 1), math.log(ratio), dtype=torch.float64, requires_grad=True)
    loss = objective.ratio_loss(ratios, torch.full((1, 1, 1), advantage), clip=0.1)
    (gradient,) = torch.autograd.grad(loss, ratios)
    assert float(gradient) == pytest.approx(-advantage * ratio if pushes else 0.0)


def test_the_loss_is_the_surrogates_negative_mean():
    ratios = torch.tensor([[[0.0, math.log(1.5), math.log(0.5)]]], dtype=torch.float64)
    advantage = torch.tensor([[[1.0, 2.0, -1.0]]], dtype=torch.float64)
    loss = objective.ratio_loss(ratios, advantage, clip=0.1, weight=3.0)
    assert float(loss) == pytest.approx(-3.0 * (1.0 + 2.0 * 1.1 - 0.9) / 3)


@families
def test_untrusted_pixels_have_no_gradient(family):
    case = Case(family)
    trusted = torch.rand((3, 5, 6), generator=torch.Generator().manual_seed(0)) < 0.5
    mean = case.step.mean(case.x, case.denoised)
    ratios = objective.log_ratio(mean, case.mean_old, case.z, case.step.std)
    gradient = case.gradient(objective.ratio_loss(ratios, case.advantage, 0.1, 1.0, trusted))
    per_pixel = gradient.abs().sum(dim=1)
    assert torch.equal(per_pixel == 0, ~trusted)


@families
@pytest.mark.parametrize("size", [0.5, 2.0])
@pytest.mark.parametrize("log_ratio", [0.01, -0.01])
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_the_trust_region_stops_far_and_outward_moves(family, size, log_ratio, advantage):
    step = STEPS[family]
    move = size * math.sqrt(2.0 * objective.TRUST_REGION) * step.sigma_t / step.a_t
    old = randn(1, 4, 2, 2)
    inside = objective.inside_trust_region(
        old + move, old, torch.full((1, 2, 2), log_ratio), torch.full((1, 2, 2), advantage), step
    )
    assert bool((inside == (not (size > 1.0 and advantage * log_ratio > 0.0))).all())


# step weights


@pytest.mark.parametrize(("family", "sigmas"), [
    ("vp", (14.6, 7.0, 3.0, 1.0, 0.3, 0.05)),
    ("flow", (0.95, 0.8, 0.5, 0.2, 0.05)),
])  # fmt: skip
@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_uniform_weights_pull_equally_on_the_predicted_noise(family, sigmas, eta):
    steps = make_steps(family, sigmas, eta)
    pulls = [w * eps_weight(s) for w, s in zip(objective.step_weights(steps), steps, strict=True)]
    rms = math.sqrt(sum(eps_weight(s) ** 2 for s in steps) / len(steps))
    assert pulls == pytest.approx([rms] * len(steps))
    assert objective.step_weights(steps, "exact") == tuple(1.0 for _ in steps)


@pytest.mark.parametrize(("family", "sigmas"), [
    ("vp", (14.6, 7.0, 3.0, 1.0, 0.3, 0.05)),
    ("flow", (1.0, 0.8, 0.5, 0.2, 0.05)),
])  # fmt: skip
def test_denoised_weights_pull_equally_on_the_prediction(family, sigmas):
    steps = make_steps(family, sigmas, 1.0)
    weights = objective.step_weights(steps, "denoised")
    finite = [w for w in map(eps_weight, steps) if math.isfinite(w)]
    rms = math.sqrt(sum(w * w for w in finite) / len(finite))
    pulls = [w * s.gain / s.std for w, s in zip(weights, steps, strict=True)]
    assert pulls == pytest.approx([rms] * len(steps))


def test_a_step_without_signal_does_not_spoil_the_others():
    steps = make_steps("flow", (1.0, 0.8, 0.5, 0.2), 1.0)
    weights = objective.step_weights(steps)
    assert weights[0] == 0.0
    assert all(0.0 < w < math.inf for w in weights[1:])


# anchor


@families
def test_the_anchor_is_the_kl_between_the_two_transitions(family):
    case, reference = Case(family), randn(3, 4, 5, 6, seed=11)
    means = [case.step.mean(case.x, d) for d in (case.denoised, reference)]
    expected = kl_divergence(*(Normal(mean, case.step.std) for mean in means)).mean()
    loss = objective.anchor_loss(case.denoised, reference, case.step.gain / case.step.std)
    torch.testing.assert_close(loss, expected)
    double = objective.anchor_loss(
        case.denoised, reference, objective.drift_weight(case.step, 2.0, "reverse")
    )
    torch.testing.assert_close(double, 4.0 * expected)
    assert float(objective.anchor_loss(reference, reference, 1.0)) == 0.0


def test_with_uniform_weights_the_anchor_is_a_distance_of_predicted_noises():
    steps = make_steps("vp", (14.0, 6.0, 2.0, 0.5), 1.0)
    mean_square = sum(eps_weight(s) ** 2 for s in steps) / len(steps)
    for step, weight in zip(steps, objective.step_weights(steps), strict=True):
        x, a, b = (randn(1, 2, 3, 3, seed=i) for i in range(3))
        eps = [(x - step.a_t * d) / step.sigma_t for d in (a, b)]
        expected = mean_square / 2 * (eps[0] - eps[1]).square().mean()
        torch.testing.assert_close(
            objective.anchor_loss(a, b, objective.drift_weight(step, weight, "reverse")), expected
        )
