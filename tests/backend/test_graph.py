"""Whatever a graph brings: what was sampled is replayed, and the gradient is that of the samples.

docs/graph.md has the table.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from graph_cases import BATCH, CASES, Case, half_mask, lora, node, random

from pxpo_core.lora import LoRALayers, Policy
from pxpo_core.objective import stored_noise_loss
from pxpo_core.rollout import draw_noise

if TYPE_CHECKING:
    from .conftest import Tiny

STEPS = 4
PARTS = (range(1), range(1, BATCH))


def rollout_of(graph: Case, policy: Policy) -> Any:
    import comfy.samplers

    from pxpo_core.backends.comfy.policy_model import RunIdentity
    from pxpo_core.backends.comfy.rollout import Rollout
    from pxpo_core.backends.comfy.session import SamplingJob, sample

    sampling = graph.model.get_model_object("model_sampling")
    noise = draw_noise((4, 8, 8), STEPS + 1, 0, 0, range(BATCH))
    job = SamplingJob(
        graph.model, graph.positive, graph.negative, graph.cfg,
        comfy.samplers.calculate_sigmas(sampling, "karras", STEPS), noise[0], graph.latent,
        graph.noise_mask, 0,
    )  # fmt: skip
    _, trajectory = sample(job, LoRALayers(policy), 1.0, noise[1:])
    return Rollout(trajectory, job, policy, RunIdentity("graph", None, 0), "base")


def learned(tiny: Tiny) -> Policy:
    policy = tiny.policy()
    tensors = {
        name: tensor + 0.05 * random(*tensor.shape, seed=i)
        for i, (name, tensor) in enumerate(sorted(policy.tensors.items()))
    }
    return replace(policy, tensors=tensors)


class Replayed:
    """A rollout's gradient and losses, computed as an update does it."""

    def __init__(self, rollout: Any) -> None:
        self.rollout, self.trajectory = rollout, rollout.trajectory
        self.worth = random(BATCH, 8, 8, seed=2)

    def run(self, work: Any, layers: LoRALayers | None = None, **backward: Any) -> Any:
        from pxpo_core.backends.comfy.backward import Backward
        from pxpo_core.backends.comfy.session import ReplaySession

        with torch.inference_mode(False), torch.enable_grad():
            layers = layers or self.layers()
            return ReplaySession(self.rollout.job, layers, Backward(**backward))(work)

    def layers(self) -> LoRALayers:
        with torch.inference_mode(False):
            return LoRALayers(self.rollout.policy)

    def state(self, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.trajectory.states[t].clone(), self.trajectory.noises[t].clone()

    def ratio_is_one(self) -> None:
        """x_s rebuilt from the replayed mean has the bits of the sampled one."""

        def work(denoise: Any) -> None:
            for t in (0, 2):
                (x, z), step = self.state(t), self.trajectory.steps[t]
                again = step.mean(x, denoise(x, step.sigma_t, range(BATCH)).detach()) + step.std * z
                decided = z != 0.0  # an inpainting mask overwrites the others
                assert decided.any()
                assert torch.equal(again[decided], self.trajectory.states[t + 1][decided]), t

        self.run(work)

    def loss(self, denoise: Any, *, backward: bool) -> float:
        total = 0.0
        for t in (0, 2):
            (x, z), step = self.state(t), self.trajectory.steps[t]
            for rows in PARTS:
                chosen = list(rows)
                denoised = denoise(x[chosen], step.sigma_t, rows)
                part = stored_noise_loss(
                    denoised.double(), z[chosen].double(), self.worth[chosen].double(), step
                )
                if backward:
                    part.backward()
                total += float(part.detach())
        return total

    def gradient(self, **backward: Any) -> dict[str, torch.Tensor]:
        layers = self.layers()
        self.run(lambda denoise: self.loss(denoise, backward=True), layers, **backward)
        return {n: p.grad.clone() for n, p in layers.parameters.items() if p.grad is not None}

    def gradient_is_right(self, step: float = 0.01) -> None:
        """The slope of the loss along the gradient is the gradient's norm.

        step: how far to go for the slope, as a share of the weights' norm.
        """
        gradient = self.gradient()
        norm = float(torch.cat([g.flatten() for g in gradient.values()]).norm())
        assert norm > 0.0
        weights = torch.cat([p.flatten() for p in self.rollout.policy.tensors.values()])
        h = step * float(weights.norm())
        values = []
        for sign in (1.0, -1.0):
            moved = self.layers()
            for name, value in gradient.items():
                moved.parameters[name].data += sign * h / norm * value
            values.append(self.run(lambda d: self.loss(d, backward=False), moved))
        assert (values[0] - values[1]) / (2 * h) == pytest.approx(norm, rel=0.02)
        repeated = self.checkpointed_gradient()
        worst = max(float((repeated[n] - g).abs().max()) for n, g in gradient.items())
        assert worst < 1e-5 * max(float(g.abs().max()) for g in gradient.values())

    def checkpointed_gradient(self) -> dict[str, torch.Tensor]:
        """As an update asks for it: with copies where something was overwritten."""
        from pxpo_core.backends.comfy.checkpointing import OverwrittenError

        try:
            return self.gradient(checkpointing=True)
        except OverwrittenError:
            return self.gradient(checkpointing=True, copies=True)


@pytest.mark.parametrize("name", CASES)
def test_what_a_graph_brings(tiny: Tiny, name: str) -> None:
    from pxpo_core.backends.comfy.measuring import try_one_picture

    graph = CASES[name](Case(tiny.model, tiny.positive, tiny.negative))
    rollout = rollout_of(graph, learned(tiny))
    plain = rollout_of(Case(tiny.model, tiny.positive, tiny.negative), rollout.policy)
    before = tiny.fingers()
    if name != "plain":
        assert not torch.equal(rollout.trajectory.x_0, plain.trajectory.x_0), "it has an effect"
    replayed = Replayed(rollout)
    replayed.ratio_is_one()
    # Where attention crosses a threshold, this node's guidance jumps: the slope is a local one.
    replayed.gradient_is_right(0.001 if name == "SelfAttentionGuidance" else 0.01)
    with torch.inference_mode(False), torch.enable_grad():
        assert try_one_picture(rollout, LoRALayers(rollout.policy)).drift < 1e-4
    again = rollout_of(Case(tiny.model, tiny.positive, tiny.negative), rollout.policy)
    assert torch.equal(again.trajectory.x_0, plain.trajectory.x_0), "the model is as it was"
    assert tiny.fingers() == before


UNREPEATABLE = {
    "EasyCache": ("nodes_easycache", "EasyCacheNode", (0.2, 0.1, 0.9, False)),
    "LazyCache": ("nodes_easycache", "LazyCacheNode", (0.2, 0.1, 0.9, False)),
    "HyperTile": ("nodes_hypertile", "HyperTile", (256, 2, 0, False)),
    "Token Merging": ("nodes_tomesd", "TomePatchModel", (0.3,)),
    "torch.compile": ("nodes_torch_compile", "TorchCompileModel", ("inductor",)),
}


@pytest.mark.parametrize("name", UNREPEATABLE)
def test_what_cannot_be_replayed_is_refused_by_name(tiny: Tiny, name: str) -> None:
    from pxpo_core.backends.comfy.patches import PatchError, refuse_unrepeatable

    module, class_name, settings = UNREPEATABLE[name]
    refuse_unrepeatable(tiny.model)
    patched = node(module, class_name, tiny.model, *settings)
    with pytest.raises(PatchError, match=f"cannot learn through .*{name}.*Bypass"):
        refuse_unrepeatable(patched)


def test_a_model_that_remembers_is_refused_before_training(tiny: Tiny) -> None:
    """Momentum in APG: what it adds depends on the calls before. Its name is in the sentence."""
    from pxpo_core.backends.comfy.measuring import NotRepeatableError
    from pxpo_core.update import UpdateConfig

    model = node("nodes_apg", "APG", tiny.model, 1.0, 5.0, -0.5)
    rollout = rollout_of(Case(model, tiny.positive, tiny.negative), learned(tiny))
    with pytest.raises(NotRepeatableError, match=r"% off.*APG\.execute\.pre_cfg_function"):
        tiny.train(rollout, UpdateConfig())


def test_a_model_that_keeps_its_graph_is_refused(tiny: Tiny) -> None:
    """What it remembers may be too small to be seen in one prediction."""
    from pxpo_core.backends.comfy.measuring import NotRepeatableError
    from pxpo_core.update import UpdateConfig

    before: list[Any] = [0.0]

    def remember(args: Any) -> Any:
        before[0] = args["denoised"] + 1e-6 * before[0]
        return before[0]

    model = tiny.model.clone()
    model.set_model_sampler_post_cfg_function(remember)
    rollout = rollout_of(Case(model, tiny.positive, tiny.negative), learned(tiny))
    with pytest.raises(NotRepeatableError, match=r"keeps something of the step before.*remember"):
        tiny.train(rollout, UpdateConfig())


def test_masked_pixels_take_no_part(tiny: Tiny) -> None:
    """Whatever is said about pixels an inpainting mask protects, the gradient has the same bits."""
    graph = replace(
        Case(tiny.model, tiny.positive, tiny.negative),
        noise_mask=half_mask(1, 64, 64),
        latent=random(BATCH, 4, 8, 8),
    )
    rollout = rollout_of(graph, learned(tiny))
    assert not rollout.trajectory.noises[..., 4:].any()
    assert rollout.trajectory.noises[:3, ..., :4].all()
    replayed = Replayed(rollout)
    first = replayed.gradient()
    replayed.worth[..., 4:] = 1000.0
    second = replayed.gradient()
    assert all(torch.equal(first[name], second[name]) for name in first)
    replayed.worth[..., :4] = 0.0
    assert not any(g.any() for g in replayed.gradient().values())


@pytest.mark.parametrize("order", ["before", "after"])
def test_other_loras_before_and_after_the_training_run(tiny: Tiny, order: str) -> None:
    """The base that is sampled and trained has the other LoRA either way, and only that."""
    import comfy.sd

    from pxpo_core.backends.comfy.policy_model import RunIdentity, attach_policy, detach_policy

    policy, other = learned(tiny), lora(tiny.model)

    def load(model: Any) -> Any:
        return comfy.sd.load_lora_for_models(model, None, other, 1.0, 0.0)[0]

    def run(model: Any) -> Any:
        return attach_policy(model, policy, RunIdentity("graph", None, 1), "base")

    model = run(load(tiny.model)) if order == "before" else load(run(tiny.model))
    base = detach_policy(model)
    rollout = rollout_of(Case(base, tiny.positive, tiny.negative), policy)
    expected = rollout_of(Case(load(tiny.model), tiny.positive, tiny.negative), policy)
    assert torch.equal(rollout.trajectory.x_0, expected.trajectory.x_0)
    Replayed(rollout).ratio_is_one()
