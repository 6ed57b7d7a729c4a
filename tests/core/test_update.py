"""One round of training on a tiny model, in float64: its gradient, its step, and its refusals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pxpo_core import update
from pxpo_core.credit import Advantage, Foresight, advantage_map, blur
from pxpo_core.gradient import HOLD_ON_PATH, held_pixels
from pxpo_core.lora import LoRAConfig, LoRALayers, Policy
from pxpo_core.objective import matching_loss, step_weights
from pxpo_core.optimizer import optimizer_state
from pxpo_core.rollout import Trajectory, diffuse, draw_noise, sample_trajectory
from pxpo_core.update import Experience, NonFiniteUpdateError, UpdateConfig, update_policy

SIGMAS = {"vp": (8.0, 3.0, 1.0, 0.3, 0.0), "flow": (1.0, 0.8, 0.5, 0.2, 0.0)}
BATCH, SIZE = 8, (3, 4)
ALL_STEPS = UpdateConfig(
    train_steps=99,
    steps_per_rollout=1,
    max_grad_norm=1e9,
    anchor=0.0,
    anchor_region="everywhere",
)
ON_NOISE = replace(ALL_STEPS, step_weighting="uniform")


class Model(nn.Module):
    """Denoises two channels; every pixel sees its neighbours, as in a real model."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 5, 3, padding=1), nn.Conv2d(5, 2, 1)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.double().parameters():
            parameter.requires_grad_(False).normal_(std=0.5, generator=generator)

    def forward(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        return self.second(torch.tanh(self.first(x.double() / (1.0 + sigma**2) ** 0.5)))


class Session:
    """Lends the model with (or, for layers None, without) its LoRA, and counts its calls."""

    def __init__(self, model: Model, layers: LoRALayers | None) -> None:
        self.model, self.layers, self.calls = model, layers, 0

    def __call__(self, work: Callable[[Any], Any]) -> Any:
        if self.layers is None:
            return work(self.denoise)
        with self.layers.attached(self.model):
            return work(self.denoise)

    def denoise(self, x: torch.Tensor, sigma: float, samples: Sequence[int]) -> torch.Tensor:
        assert len(samples) == len(x)
        self.calls += 1
        return self.model(x, sigma)


def make_policy(seed: int = 0) -> Policy:
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "first.lora_down.weight": (2, 2, 3, 3), "first.lora_up.weight": (5, 2, 1, 1),
        "second.lora_down.weight": (2, 5, 1, 1), "second.lora_up.weight": (2, 2, 1, 1),
    }  # fmt: skip
    tensors = {
        name: 0.3 * torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    return Policy(LoRAConfig(r=2, lora_alpha=2.0, target_modules="all layers"), tensors)


class Case:
    """A model, its policy, a rollout by that policy, and a reward."""

    def __init__(self, family: str = "vp", seed: int = 0, batch: int = BATCH) -> None:
        self.model, self.policy = Model(), make_policy()
        self.layers = LoRALayers(self.policy)
        self.session = Session(self.model, self.layers)
        noise = draw_noise((2, *SIZE), 5, seed, 0, range(batch)).double()
        sigmas = SIGMAS[family]
        with torch.no_grad():
            self.trajectory: Trajectory = self.session(
                lambda denoise: sample_trajectory(
                    denoise, sigmas[0] * noise[0], noise[1:], sigmas, family, 1.0
                )
            )
        self.session.calls = 0
        generator = torch.Generator().manual_seed(seed + 1)
        self.advantage = advantage_map(torch.randn((batch, 24, 32), generator=generator), SIZE)

    def experience(self, **changes: Any) -> Experience:
        return replace(Experience(self.trajectory, self.advantage, self.session), **changes)

    def update(self, config: UpdateConfig = ALL_STEPS, **changes: Any) -> update.UpdateResult:
        return update_policy([self.experience(**changes)], self.layers, {}, config, seed=0)

    def gradient(self, config: UpdateConfig = ALL_STEPS, **changes: Any) -> torch.Tensor:
        """The gradient the optimizer is handed, over all LoRA weights."""
        self.update(config, **changes)
        return flat(self.layers)

    def loss(self, config: UpdateConfig = ALL_STEPS) -> float:
        """The update's loss in one line per term, with the noise stored in the rollout."""
        steps = [self.trajectory.steps[t] for t in self.trajectory.trainable]
        total = 0.0
        for t, weight in zip(
            self.trajectory.trainable, step_weights(steps, config.step_weighting), strict=True
        ):
            step, z = self.trajectory.steps[t], self.trajectory.noises[t]
            x, worth = self.trajectory.states[t], self.advantage.at(t)[:, None].double()
            with torch.no_grad(), self.layers.attached(self.model):
                denoised = self.model(x, step.sigma_t)
            total -= float((worth * weight * step.gain / step.std * z * denoised).mean())
            if config.anchor:
                with torch.no_grad():
                    reference = self.model(x, step.sigma_t)
                drift = weight * step.gain / step.std * (denoised - reference)
                if config.anchor_region == "unmarked":
                    drift = drift * self.advantage.unmarked[:, None].sqrt()
                total += HOLD_ON_PATH * config.anchor * 0.5 * float(drift.square().mean())
        return total


def flat(layers: LoRALayers) -> torch.Tensor:
    return torch.cat([layers.parameters[n].grad.flatten() for n in sorted(layers.parameters)])


def weights(policy: Policy) -> torch.Tensor:
    return torch.cat([policy.tensors[n].flatten() for n in sorted(policy.tensors)])


def moved(result: update.UpdateResult, start: Policy) -> torch.Tensor:
    return weights(result.policy) - weights(start)


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """AdamW.step only notes that it was called, so that gradients can be read at one point."""
    called: list[float] = []
    monkeypatch.setattr(
        torch.optim.AdamW,
        "step",
        lambda self, closure=None: called.append(self.param_groups[0]["lr"]),
    )
    return called


# the gradient


def pictures_from_elsewhere(family: str) -> Trajectory:
    """Finished latents that the model never sampled, with noise."""
    noises = draw_noise((2, *SIZE), 4, 5, 0, range(BATCH)).double()
    x_0 = torch.randn((BATCH, 2, *SIZE), dtype=torch.float64)
    return diffuse(x_0, noises, SIGMAS[family], family)


def matching_gradient(
    case: Case, trajectory: Trajectory, worth: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """That of A |x_0 - D|^2 / 2 by signal to noise; worth: A [B, h, w] of predictions."""
    case.layers.parameters["first.lora_up.weight"].grad = None
    total = torch.zeros((), dtype=torch.float64)
    for t in trajectory.trainable:
        step = trajectory.steps[t]
        with case.layers.attached(case.model):
            denoised = case.model(trajectory.states[t], step.sigma_t)
        wrong = step.a_t / step.sigma_t * (denoised - trajectory.x_0).square() / 2.0
        total = total + (worth(denoised.detach())[:, None] * wrong).mean()
    names = sorted(case.layers.parameters)
    parts = torch.autograd.grad(total, [case.layers.parameters[n] for n in names])
    return torch.cat([part.flatten() for part in parts])


@pytest.mark.parametrize("family", list(SIGMAS))
@pytest.mark.usefixtures("frozen")
def test_the_forward_process_pulls_towards_liked_pixels_and_away_from_disliked_ones(family):
    case, trajectory = Case(family), pictures_from_elsewhere(family)
    gradient = case.gradient(trajectory=trajectory)
    expected = matching_gradient(case, trajectory, lambda _: case.advantage.values.double())
    torch.testing.assert_close(gradient, expected, rtol=1e-6, atol=1e-10)
    assert gradient.abs().max() > 1e-3


@pytest.mark.usefixtures("frozen")
def test_a_finished_picture_earns_what_its_prediction_did_not_foresee():
    """However the value judges predictions, the loss sees earned minus foreseen at every level."""
    case, trajectory = Case(), pictures_from_elsewhere("vp")
    earned = torch.randn((BATCH, *SIZE), generator=torch.Generator().manual_seed(7))

    def value(denoised: torch.Tensor) -> torch.Tensor:
        return 0.5 * denoised[:, 0] - denoised[:, 1]

    foresight = Foresight(value, earned, torch.ones(BATCH).bool())
    path_credit = torch.randn((9, BATCH, *SIZE))  # of a path these pictures do not have
    advantage = replace(case.advantage, by_step=path_credit, foresight=foresight)
    gradient = case.gradient(trajectory=trajectory, advantage=advantage)
    expected = matching_gradient(
        case, trajectory, lambda known: (earned - value(known)).clamp(-5.0, 5.0)
    )
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-8)


@pytest.mark.usefixtures("frozen")
def test_finished_pictures_are_held_where_nothing_was_marked_in_the_units_of_their_loss():
    """There D is pulled to the base model's prediction as a liked pixel's to the picture."""
    case, trajectory = Case(), pictures_from_elsewhere("vp")
    unmarked = torch.rand(case.advantage.values.shape)
    case.advantage = replace(case.advantage, unmarked=unmarked)
    config = replace(ALL_STEPS, anchor=0.5, anchor_region="unmarked")
    held = case.gradient(config, trajectory=trajectory, reference=Session(case.model, None))
    held = held - case.gradient(trajectory=trajectory)
    known = {}
    for t in trajectory.trainable:
        with torch.no_grad():
            known[t] = case.model(trajectory.states[t], trajectory.steps[t].sigma_t)
    case.layers.parameters["first.lora_up.weight"].grad = None
    total = torch.zeros((), dtype=torch.float64)
    for t in trajectory.trainable:
        step = trajectory.steps[t]
        with case.layers.attached(case.model):
            away = (case.model(trajectory.states[t], step.sigma_t) - known[t]).square() / 2.0
        total = total + step.a_t / step.sigma_t * 0.5 * (unmarked[:, None] * away).mean()
    parts = torch.autograd.grad(
        total, [case.layers.parameters[n] for n in sorted(case.layers.parameters)]
    )
    expected = torch.cat([part.flatten() for part in parts])
    torch.testing.assert_close(held, expected, rtol=1e-6, atol=1e-9)
    assert held.abs().max() > 1e-4


def test_what_is_held_less_goes_further_in_later_steps():
    """Credit tells how hard its own round is held, and how hard the anchor holds."""
    trajectory = pictures_from_elsewhere("vp")
    config = replace(ALL_STEPS, steps_per_rollout=8, learning_rate=1e-1)
    gone = {}
    for hold in (0.1, 1.0, 10.0):
        case = Case()
        case.advantage = replace(case.advantage, hold=hold)
        gone[hold] = float(moved(case.update(config, trajectory=trajectory), case.policy).norm())
    assert gone[0.1] > gone[1.0] > gone[10.0]
    case = Case()
    unmarked = torch.rand(case.advantage.values.shape)
    case.advantage = replace(case.advantage, hold=0.1, unmarked=unmarked)
    anchored = replace(config, anchor=1.0, anchor_region="unmarked")
    held = held_pixels(case.experience(reference=Session(case.model, None)), anchored)
    torch.testing.assert_close(held, 0.1 * unmarked)


@pytest.mark.usefixtures("frozen")
def test_the_second_step_of_the_forward_process_is_held_near_the_first_prediction():
    """With nothing liked or disliked left to learn, the quadratic term alone pulls back."""
    step = Case().trajectory.steps[1]
    old, x_0 = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)
    moved_on = (old + 0.1).requires_grad_()
    loss = matching_loss(moved_on, old, x_0, torch.zeros(1, 3, 3), step)
    (pull,) = torch.autograd.grad(loss, moved_on)
    assert (pull > 0).all()
    softly = matching_loss(moved_on, old, x_0, torch.zeros(1, 3, 3), step, hold=0.1)
    torch.testing.assert_close(torch.autograd.grad(softly, moved_on)[0], 0.1 * pull)
    disliked = matching_loss(moved_on, old, x_0, torch.full((1, 3, 3), -1.0), step)
    far = matching_loss(old + 100.0, old, x_0, torch.full((1, 3, 3), -1.0), step)
    assert far > disliked, "a dislike must not reward going away for ever"


@pytest.mark.parametrize("family", list(SIGMAS))
@pytest.mark.parametrize("weighting", ["uniform", "exact", "denoised"])
@pytest.mark.parametrize("anchor", [0.0, 7.0])
@pytest.mark.usefixtures("frozen")
def test_the_gradient_equals_finite_differences(family, weighting, anchor):
    case = Case(family)
    config = replace(ALL_STEPS, step_weighting=weighting, anchor=anchor)
    check_gradient(case, config, case.gradient(config, reference=Session(case.model, None)))


@pytest.mark.usefixtures("frozen")
def test_every_step_is_pulled_by_what_it_earned():
    case = Case()
    steps = len(case.trajectory.trainable)
    generator = torch.Generator().manual_seed(5)
    by_step = torch.randn((steps, BATCH, *SIZE), generator=generator)
    case.advantage = replace(case.advantage, by_step=by_step)
    check_gradient(case, ALL_STEPS, case.gradient())
    alike = case.advantage.values.expand(steps, *case.advantage.values.shape)
    case.advantage = replace(case.advantage, by_step=alike)
    torch.testing.assert_close(case.gradient(), Case().gradient())


@pytest.mark.usefixtures("frozen")
def test_an_anchor_on_unmarked_pixels_leaves_the_marked_ones_free():
    case = Case()
    unmarked = torch.zeros_like(case.advantage.values)
    config = replace(ALL_STEPS, anchor=7.0, anchor_region="unmarked")
    reference = Session(case.model, None)
    case.advantage = replace(case.advantage, unmarked=unmarked)
    torch.testing.assert_close(case.gradient(config, reference=reference), case.gradient())
    unmarked[:, :, :2], unmarked[:, :, 2] = 1.0, 0.3
    check_gradient(case, config, case.gradient(config, reference=reference))


def check_gradient(case: Case, config: UpdateConfig, gradient: torch.Tensor) -> None:
    """Against central differences of the loss, at a fifth of each layer's weights."""
    names, h, position = sorted(case.layers.parameters), 1e-5, 0
    for name in names:
        values = case.layers.parameters[name].data.view(-1)
        for i in range(0, len(values), max(1, len(values) // 5)):
            start = float(values[i])
            values[i] = start + h
            up = case.loss(config)
            values[i] = start - h
            down = case.loss(config)
            values[i] = start
            expected = (up - down) / (2 * h)
            assert float(gradient[position + i]) == pytest.approx(expected, rel=1e-5, abs=1e-8)
        position += len(values)
    assert gradient.abs().max() > 1e-3


@pytest.mark.parametrize("size", [1, 3, 8, 100])
@pytest.mark.usefixtures("frozen")
def test_micro_batches_do_not_change_the_gradient(size):
    whole = Case().gradient(replace(ALL_STEPS, micro_batch=8))
    part = Case().gradient(replace(ALL_STEPS, micro_batch=size))
    torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("frozen")
def test_two_rollouts_count_by_their_images():
    """A rollout of 8 split into 3 and 5 gives the same gradient."""
    case = Case()
    whole = case.gradient()

    def part(rows: slice) -> Experience:
        trajectory = replace(
            case.trajectory, states=case.trajectory.states[:, rows],
            noises=case.trajectory.noises[:, rows], x_0=case.trajectory.x_0[rows],
        )  # fmt: skip
        advantage = replace(case.advantage, values=case.advantage.values[rows])
        return Experience(trajectory, advantage, case.session)

    parts = [part(slice(0, 3)), part(slice(3, 8))]
    update_policy(parts, case.layers, {}, ALL_STEPS, seed=0)
    torch.testing.assert_close(flat(case.layers), whole, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("frozen")
def test_training_some_steps_is_unbiased_over_the_choice():
    """K of T steps, scaled by T / K: the average over draws is the gradient of all steps."""
    whole = Case().gradient()
    config = replace(ALL_STEPS, train_steps=1)
    seen = {}
    for seed in range(12):
        case = Case()
        result = update_policy([case.experience()], case.layers, {}, config, seed)
        seen[result.trained_steps] = flat(case.layers)
    assert set(seen) == {(0,), (1,), (2,)}
    torch.testing.assert_close(sum(seen.values()) / 3, whole, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("frozen")
def test_credit_that_grows_with_the_noise_is_each_steps_own_blur():
    """One trained step at a time: the gradient is that of the map blurred for this step."""
    growth = 0.4
    config = replace(ALL_STEPS, train_steps=1)
    for seed in range(4):
        case = Case()
        grown = update_policy(
            [case.experience()], case.layers, {}, replace(config, credit_growth=growth), seed
        )
        gradient = flat(case.layers)
        step = case.trajectory.steps[grown.trained_steps[0]]
        values = case.advantage.values
        spread = blur(values, growth * step.sigma_t / step.a_t)
        spread = spread * (values.square().mean() / spread.square().mean()).sqrt()
        other = Case()
        advantage = replace(other.advantage, values=spread)
        update_policy([other.experience(advantage=advantage)], other.layers, {}, config, seed)
        torch.testing.assert_close(gradient, flat(other.layers), rtol=1e-5, atol=1e-9)
        update_policy([other.experience()], other.layers, {}, config, seed)
        assert not torch.allclose(gradient, flat(other.layers), rtol=1e-2)


@pytest.mark.usefixtures("frozen")
def test_an_infinite_credit_radius_is_ddpo():
    """grad of -mean over images of (R - mean R) / std R times the picture's mean log-prob."""
    case = Case()
    reward = torch.randn((BATCH, 24, 32), generator=torch.Generator().manual_seed(4))
    advantage = advantage_map(reward, SIZE, credit_radius=math.inf)
    config = replace(ALL_STEPS, credit_radius=math.inf, step_weighting="exact")
    gradient = case.gradient(config, advantage=advantage)
    scores = reward.mean(dim=(1, 2)).double()
    scores = (scores - scores.mean()) / scores.std(correction=0)
    total = torch.zeros((), dtype=torch.float64)
    with case.layers.attached(case.model):
        for t in case.trajectory.trainable:
            step, x = case.trajectory.steps[t], case.trajectory.states[t]
            normal = torch.distributions.Normal(step.mean(x, case.model(x, step.sigma_t)), step.std)
            log_probs = normal.log_prob(case.trajectory.states[t + 1]).mean(dim=(1, 2, 3))
            total = total - (scores * log_probs).mean()
    parameters = [case.layers.parameters[n] for n in sorted(case.layers.parameters)]
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(total, parameters)])
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.usefixtures("frozen")
def test_unmarked_pictures_do_not_matter_without_an_anchor():
    case = Case()
    values = case.advantage.values.clone()
    values[4:] = 0.0
    marked = replace(case.advantage, values=values)
    gradient = case.gradient(advantage=marked)
    case.trajectory.states[:, 4:] += 1.0
    torch.testing.assert_close(case.gradient(advantage=marked), gradient)


def test_the_second_step_takes_the_ratio_form(frozen):
    """With the weights unchanged in between, the ratio is 1 and its gradient the first one's."""
    gradients = []
    case = Case()
    original = torch.nn.utils.clip_grad_norm_

    def note(parameters, limit):
        gradients.append(flat(case.layers).clone())
        return original(parameters, limit)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(update.torch.nn.utils, "clip_grad_norm_", note)
        case.update(replace(ALL_STEPS, steps_per_rollout=3))
    assert len(frozen) == 3
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-8, atol=1e-10)


def test_clipping_ends_the_pull_of_a_rollout_used_many_times():
    """Many steps on one rollout stop near the clip range instead of running away."""
    case = Case()
    few = case.update(replace(ON_NOISE, learning_rate=1e-2, steps_per_rollout=40))
    norms = few.grad_norm
    assert norms < 0.5 * Case().update(replace(ON_NOISE, learning_rate=1e-2)).grad_norm


# the step


def test_no_signal_means_no_step_and_the_same_bits(frozen):
    case = Case()
    zero = Advantage(torch.zeros_like(case.advantage.values), 0.0, 0.3)
    state = {"first.lora_up.weight.step": torch.tensor(3.0)}
    result = update_policy(
        [case.experience(advantage=zero)], case.layers, {}, replace(ALL_STEPS, anchor=0.5), seed=0
    )
    assert frozen == []
    assert case.session.calls == 0
    assert torch.equal(weights(result.policy), weights(case.policy))
    assert result.policy.digest == case.policy.digest
    assert result.learning_rate == 0.0
    assert state


def test_a_good_reward_becomes_more_likely():
    """After one step the advantage-weighted log-prob of the rollout has grown."""
    case = Case()
    before = case.loss()
    case.update(replace(ALL_STEPS, learning_rate=1e-3))
    assert case.loss() < before


@pytest.mark.parametrize("strength", [0.5, 0.1])
def test_brush_strength_scales_the_step(strength):
    """Adam would forget it: the same gradient with half the strength moves half as far."""
    full = Case().update(replace(ON_NOISE, max_grad_norm=1.0))
    weak = Advantage(strength * Case().advantage.values, strength * 0.2, 0.2)
    result = Case().update(replace(ON_NOISE, max_grad_norm=1.0), advantage=weak)
    assert result.learning_rate == pytest.approx(strength * ON_NOISE.learning_rate)
    start = make_policy()
    torch.testing.assert_close(
        moved(result, start), strength * moved(full, start), rtol=1e-3, atol=1e-9
    )


def test_the_gradient_norm_is_clipped_once_and_reported_unclipped():
    case = Case()
    free = case.update().grad_norm
    case = Case()
    case.update(replace(ALL_STEPS, max_grad_norm=1e-3))
    assert float(flat(case.layers).norm()) == pytest.approx(1e-3, rel=1e-4)
    assert Case().update(replace(ALL_STEPS, max_grad_norm=1e-3)).grad_norm == pytest.approx(free)


@pytest.mark.parametrize("steps", [1, 3])
def test_pictures_without_credit_have_no_part_whatever_is_trained_at_once(steps):
    """They would hold the model to what it predicted before, from the second step on."""
    config = replace(ALL_STEPS, objective="pictures", steps_per_rollout=steps, learning_rate=1e-2)
    found, calls = [], []
    for size in (1, 3, 8):
        case = Case()
        case.trajectory = diffuse(case.trajectory.x_0, case.trajectory.noises, SIGMAS["vp"], "vp")
        values = case.advantage.values.clone()
        values[[0, 2, 3, 5, 7]] = 0.0
        case.advantage = replace(case.advantage, values=values)
        found.append(weights(case.update(replace(config, micro_batch=size)).policy))
        calls.append(case.session.calls)
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found[0], found[2], rtol=1e-6, atol=1e-9)
    assert calls[0] == 3 * calls[1] == 3 * calls[2], "three pictures have a part"


def test_a_round_that_says_the_opposite_starts_the_optimizer_afresh():
    case = Case()
    first = case.update(replace(ALL_STEPS, learning_rate=1e-2))

    def after(state: Any, opposite: bool) -> update.UpdateResult:
        layers = case.session.layers = LoRALayers(case.policy)
        advantage = replace(case.advantage, opposite=opposite)
        experience = case.experience(advantage=advantage)
        return update_policy([experience], layers, state, ALL_STEPS, seed=0)

    fresh = after({}, False)
    assert after(first.optimizer, True).policy.digest == fresh.policy.digest
    assert after(first.optimizer, False).policy.digest != fresh.policy.digest


def test_a_finished_image_weighs_the_same_whatever_its_schedule():
    case = Case()
    x_0, noises, short = case.trajectory.x_0, case.trajectory.noises, SIGMAS["vp"]
    long = (8.0, 5.0, 3.0, 2.0, 1.0, 0.5, 0.3, 0.1, 0.0)
    made = [
        case.experience(trajectory=diffuse(x_0, torch.cat([noises] * count), sigmas, "vp"))
        for count, sigmas in ((1, short), (2, long))
    ]
    levels = [len(experience.trajectory.trainable) for experience in made]
    assert levels == [4, 8]
    shares = update._shares(made, [8.0, 8.0])
    assert [n * share for n, share in zip(levels, shares, strict=True)] == [3.0, 3.0]
    assert update._shares(made[:1], [8.0]) == [1.0]
    paths = [case.experience()] * 2
    assert update._shares(paths, [8.0, 8.0]) == [0.5, 0.5]


def test_optimizer_state_carries_over_exactly():
    """Two rounds in one process equal two rounds with the state written down in between."""
    case = Case()
    adam = update.make_optimizer(case.layers, 1e-2, {})
    config = replace(ALL_STEPS, learning_rate=1e-2)
    first = case.update(config)
    second = update_policy([case.experience()], case.layers, first.optimizer, config, seed=0)
    again = LoRALayers(case.policy)
    adam = update.make_optimizer(again, 1e-2, {})
    for _ in range(2):
        adam.zero_grad()
        case.session.layers = again
        update.accumulate_gradient(
            case.experience(), case.trajectory.trainable, 1.0, config, {}, {}, 1.0, lambda: None
        )
        adam.step()
    torch.testing.assert_close(weights(second.policy), weights(again.policy()), rtol=1e-9, atol=0)
    assert optimizer_state(adam, again).keys() == second.optimizer.keys()
    assert float(second.optimizer["first.lora_up.weight.step"]) == 2.0


def test_the_update_is_reproducible():
    results = [Case().update(replace(ALL_STEPS, train_steps=2)) for _ in range(2)]
    assert results[0].policy.digest == results[1].policy.digest


@pytest.mark.parametrize(("region", "calls"), [("everywhere", 27), ("unmarked", 18 + 6)])
def test_progress_counts_to_its_total(region, calls):
    """Pictures without pixels to hold, one micro-batch of three here, cost no call of the base."""
    seen: list[tuple[int, int]] = []
    case = Case()
    unmarked = torch.ones_like(case.advantage.values)
    unmarked[3:6] = 0.0
    case.advantage = replace(case.advantage, unmarked=unmarked)
    update_policy(
        [case.experience(reference=Session(case.model, None))], case.layers, {},
        replace(ALL_STEPS, anchor=0.1, micro_batch=3, steps_per_rollout=2, anchor_region=region), 0,
        lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(i, calls) for i in range(1, calls + 1)]


@pytest.mark.parametrize("process", ["path", "pictures"])
def test_a_gradient_that_overflows_is_tried_at_a_smaller_scale(process):
    """As float16 does it: what is too large on the way back becomes infinite."""
    config = replace(ALL_STEPS, steps_per_rollout=2, learning_rate=1e-2)
    limit, calls, found = 0.3, [], []

    class Overflowing(Session):
        def denoise(self, x, sigma, samples):
            denoised = super().denoise(x, sigma, samples)
            denoised.register_hook(lambda g: torch.where(g.abs() > limit, math.inf * g, g))
            return denoised

    for kind in (Session, Overflowing):
        case = Case()
        if process == "pictures":
            noises = case.trajectory.noises
            case.trajectory = diffuse(case.trajectory.x_0, noises, SIGMAS["vp"], "vp")
        experience = case.experience(session=kind(case.model, case.layers))
        seen: list[tuple[int, int]] = []
        found.append(
            update_policy(
                [experience], case.layers, {}, config, 0, lambda *now, to=seen: to.append(now)
            )
        )
        assert seen[-1][0] == seen[-1][1]
        calls.append(len(seen))
    assert calls[1] > calls[0], "there was no overflow"
    assert found[0].policy.digest == found[1].policy.digest
    assert found[0].grad_norm == found[1].grad_norm


# refusals


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_gradient_that_is_not_a_number_changes_nothing(bad):
    case = Case()
    case.trajectory.noises[1, 2, 0, 1, 1] = bad
    with pytest.raises(NonFiniteUpdateError, match="nothing was changed"):
        case.update()
    assert case.layers.policy().digest == case.policy.digest


@pytest.mark.parametrize(
    ("field", "value"),
    [("learning_rate", 0.0), ("learning_rate", math.nan), ("learning_rate", math.inf),
     ("max_grad_norm", -1.0), ("train_steps", -1), ("steps_per_rollout", -1), ("micro_batch", 0),
     ("anchor", -0.1), ("anchor", math.inf), ("credit_radius", -1.0), ("credit_radius", math.nan),
     ("credit_growth", -1.0), ("credit_growth", math.inf),
     ("step_weighting", "none")],
)  # fmt: skip
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        UpdateConfig(**{field: value})


def test_no_number_of_steps_is_the_number_that_suits_the_objective():
    pictures, path = UpdateConfig(), UpdateConfig(objective="path")
    assert (pictures.train_steps, pictures.steps_per_rollout) == (4, 2)
    assert (path.train_steps, path.steps_per_rollout) == (8, 1)
    chosen = UpdateConfig(objective="path", train_steps=3)
    assert (chosen.train_steps, chosen.steps_per_rollout) == (3, 1)


# which steps


def test_all_steps_are_trained_when_there_are_few():
    generator = torch.Generator().manual_seed(0)
    assert update.choose_steps((0, 1, 2), 5, generator) == [0, 1, 2]


@pytest.mark.parametrize(("total", "count"), [(15, 4), (7, 3), (10, 1), (5, 5)])
def test_chosen_steps_are_different_spread_and_equally_likely(total, count):
    generator = torch.Generator().manual_seed(0)
    hits = torch.zeros(total)
    draws = 3000
    for _ in range(draws):
        steps = update.choose_steps(range(total), count, generator)
        assert len(set(steps)) == count
        gaps = [b - a for a, b in zip([steps[-1] - total, *steps], steps, strict=False)]
        assert max(gaps) - min(gaps) <= 1
        hits[steps] += 1
    expected = draws * count / total
    assert (hits / expected - 1.0).abs().max() < 0.2
