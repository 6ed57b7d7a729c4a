"""A rollout of a tiny model, replayed with gradients the way an update does it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from graph_cases import BATCH, Case, random

from pxpo_core.lora import LoRALayers, Policy
from pxpo_core.objective import stored_noise_loss
from pxpo_core.rollout import draw_noise

STEPS = 4
PARTS = (range(1), range(1, BATCH))


def rollout_of(graph: Case, policy: Policy) -> Any:
    import comfy.samplers

    from pxpo_core.backends.comfy.policy_model import RunIdentity
    from pxpo_core.backends.comfy.rollout import Rollout
    from pxpo_core.backends.comfy.session import SamplingJob, sample

    sampling = graph.model.get_model_object("model_sampling")
    noise = draw_noise(graph.latent.shape[1:], STEPS + 1, 0, 0, range(BATCH))
    job = SamplingJob(
        graph.model, graph.positive, graph.negative, graph.cfg,
        comfy.samplers.calculate_sigmas(sampling, "karras", STEPS), noise[0], graph.latent,
        graph.noise_mask, 0,
    )  # fmt: skip
    _, trajectory = sample(job, LoRALayers(policy), 1.0, noise[1:])
    return Rollout(trajectory, job, policy, RunIdentity("graph", None, 0), "base")


def learned(policy: Policy) -> Policy:
    """A LoRA that has learned something: of a new one half of the gradients are zero."""
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
