"""Sampling and replay with gradients through the real host, for every family."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from pxpo_core.credit import advantage_map
from pxpo_core.lora import LoRAConfig, LoRALayers, Policy, new_policy
from pxpo_core.objective import stored_noise_loss
from pxpo_core.update import UpdateConfig

FAMILIES = ["sd15_eps", "sdxl_eps", "v_prediction", "edm", "unet_flow", "sd3", "flux"]
every_family = pytest.mark.parametrize("family", FAMILIES, indirect=True)


def policy_of(family: Any, scale: float = 0.05) -> Policy:
    """A LoRA that has learned something, on all layers it can have."""
    config = LoRAConfig(r=2, lora_alpha=2.0, target_modules="all layers")
    policy = new_policy(family.model.model.diffusion_model, config)
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: scale * torch.randn(tensor.shape, generator=generator)
        for name, tensor in policy.tensors.items()
    }
    return replace(policy, tensors=tensors)


def rollout_of(family: Any, policy: Policy) -> Any:
    from pxpo_core.backends.comfy.policy_model import RunIdentity
    from pxpo_core.backends.comfy.rollout import Rollout
    from pxpo_core.backends.comfy.session import sample

    job = family.job()
    _, trajectory = sample(job, LoRALayers(policy), 1.0, family.noise()[1:])
    return Rollout(trajectory, job, policy, RunIdentity("tiny", None, 0), "base")


@every_family
def test_the_first_ratio_is_exactly_one(family: Any) -> None:
    """Replayed with gradients, every mean has the bits it was sampled with."""
    from pxpo_core.backends.comfy.session import ReplaySession

    policy = policy_of(family)
    trajectory, job = (rollout := rollout_of(family, policy)).trajectory, rollout.job
    with torch.inference_mode(False):
        layers = LoRALayers(policy)

        def work(denoise: Any) -> None:
            for t in trajectory.trainable:
                step, x = trajectory.steps[t], trajectory.states[t].clone()
                denoised = denoise(x, step.sigma_t, range(len(x)))
                assert denoised.requires_grad
                again = step.mean(x, denoised.detach()) + step.std * trajectory.noises[t]
                assert torch.equal(again, trajectory.states[t + 1]), f"step {t}"

        ReplaySession(job, layers)(work)


@every_family
def test_gradients_equal_finite_differences(family: Any) -> None:
    """Also where the host's blocks work in place: the slope along the gradient is its norm."""
    from pxpo_core.backends.comfy.session import ReplaySession

    policy = policy_of(family)
    rollout = rollout_of(family, policy)
    trajectory = rollout.trajectory
    t = trajectory.trainable[2]
    step = trajectory.steps[t]
    with torch.inference_mode(False), torch.enable_grad():
        layers = LoRALayers(policy)
        worth = torch.randn((3, 8, 8), generator=torch.Generator().manual_seed(2))
        x, z = trajectory.states[t].clone(), trajectory.noises[t].clone()

        def loss(denoise: Any) -> torch.Tensor:
            denoised = denoise(x, step.sigma_t, range(3))
            return stored_noise_loss(denoised.double(), z.double(), worth.double(), step)

        def backward(denoise: Any) -> None:
            loss(denoise).backward()

        ReplaySession(rollout.job, layers)(backward)
        gradients = {n: p.grad.clone() for n, p in layers.parameters.items()}
        norm = float(torch.cat([g.flatten() for g in gradients.values()]).norm())
        assert norm > 0.0
        values = []
        h = 0.02 * float(
            torch.cat([p.flatten() for p in layers.parameters.values()]).detach().norm()
        )
        for sign in (1.0, -1.0):
            moved = LoRALayers(policy)
            for name, parameter in moved.parameters.items():
                parameter.data += sign * h / norm * gradients[name]
            values.append(ReplaySession(rollout.job, moved)(lambda d: float(loss(d).detach())))
    assert (values[0] - values[1]) / (2 * h) == pytest.approx(norm, rel=0.02)


@every_family
def test_a_round_trains_and_leaves_no_trace(family: Any) -> None:
    from pxpo_core.backends.comfy.train import train_round

    before = family.ours(1.0)
    policy = policy_of(family)
    rollout = rollout_of(family, policy)
    reward = torch.randn((3, 64, 64), generator=torch.Generator().manual_seed(3))
    config = UpdateConfig(learning_rate=1e-3, train_steps=2, micro_batch=2, anchor=0.1)
    result = train_round([rollout], [advantage_map(reward, (8, 8))], policy, {}, config, seed=1)
    moved = [(result.policy.tensors[n] - t).abs().max() for n, t in policy.tensors.items()]
    assert max(moved) > 1e-4
    assert torch.equal(family.ours(1.0), before)
    network = family.model.model.diffusion_model
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
