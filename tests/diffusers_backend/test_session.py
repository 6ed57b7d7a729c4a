"""Sampling, replay and gradients on diffusers pipelines, and what is left of them: nothing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import pytest
import torch

from pxpo_core.lora import LoRALayers
from pxpo_core.objective import stored_noise_loss


def state_of(unet: Any) -> dict[str, Any]:
    """Everything about a UNet that a use of it must leave alone."""
    return {
        "bits": {
            name: hashlib.sha256(tensor.detach().numpy().tobytes()).hexdigest()
            for name, tensor in unet.state_dict().items()
        },
        "modules": [(name, id(module), module.training) for name, module in unet.named_modules()],
        "parameters": [(n, id(p), p.requires_grad, p.grad) for n, p in unet.named_parameters()],
        "hooks": [
            len(hooks)
            for module in unet.modules()
            for hooks in (
                module._forward_hooks, module._forward_pre_hooks, module._backward_hooks
            )
        ],
        "attributes": sorted(vars(unet)),
        "checkpointing": unet.is_gradient_checkpointing,
    }  # fmt: skip


def test_the_first_ratio_is_exactly_one(case: Any) -> None:
    """Replayed with gradients, every mean has the bits it was sampled with."""
    from pxpo_core.backends.diffusers.session import ReplaySession

    trajectory = case.rollout()

    def work(denoise: Any) -> None:
        for t in trajectory.trainable:
            step, x = trajectory.steps[t], trajectory.states[t]
            denoised = denoise(x, step.sigma_t, range(len(x)))
            assert denoised.requires_grad
            again = step.mean(x, denoised.detach()) + step.std * trajectory.noises[t]
            assert torch.equal(again, trajectory.states[t + 1]), f"step {t}"

    ReplaySession(case.job, case.layers())(work)


def test_samples_do_not_depend_on_their_batch(case: Any) -> None:
    whole = case.rollout().x_0
    for at_once in (1, 2):
        torch.testing.assert_close(case.rollout(at_once=at_once).x_0, whole, rtol=1e-4, atol=1e-3)


def test_each_sample_has_its_own_prompt(case: Any) -> None:
    from pxpo_core.backends.diffusers.session import ReplaySession

    x, sigma = case.noise[0], case.job.sigmas[1]

    def work(denoise: Any) -> list[torch.Tensor]:
        return [denoise(x[[i]], sigma, [i]).detach() for i in range(3)] + [
            denoise(x[[1]], sigma, [2]).detach()
        ]

    *alone, other = ReplaySession(case.job, None)(work)
    whole = ReplaySession(case.job, None)(lambda d: d(x, sigma, range(3)).detach())
    torch.testing.assert_close(torch.cat(alone), whole, rtol=1e-4, atol=1e-4)
    assert float((alone[1] - other).abs().max()) > 1e-3


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_equal_finite_differences(case: Any, checkpointing: bool) -> None:
    """The slope of the loss along its gradient is the gradient's norm."""
    from pxpo_core.backends.diffusers.session import ReplaySession

    trajectory = case.rollout()
    job = replace(case.job, checkpointing=checkpointing)
    step = trajectory.steps[2]
    x, z = trajectory.states[2], trajectory.noises[2].double()
    worth = torch.randn((3, 8, 8), generator=torch.Generator().manual_seed(2)).double()

    def loss(denoise: Any) -> torch.Tensor:
        return stored_noise_loss(denoise(x, step.sigma_t, range(3)).double(), z, worth, step)

    layers = case.layers()
    ReplaySession(job, layers)(lambda denoise: loss(denoise).backward())
    gradients = {name: p.grad for name, p in layers.parameters.items()}
    norm = float(torch.cat([g.flatten() for g in gradients.values()]).norm())
    length = float(torch.cat([t.flatten() for t in case.policy.tensors.values()]).norm())
    values = []
    for sign in (1.0, -1.0):
        moved = {
            name: tensor + sign * 0.01 * length / norm * gradients[name]
            for name, tensor in case.policy.tensors.items()
        }
        session = ReplaySession(job, case.layers(replace(case.policy, tensors=moved)))
        values.append(session(lambda denoise: float(loss(denoise).detach())))
    assert (values[0] - values[1]) / (0.02 * length) == pytest.approx(norm, rel=0.02)


def test_checkpointing_gives_the_same_gradient(case: Any) -> None:
    from pxpo_core.backends.diffusers.session import ReplaySession

    gradients = []
    for checkpointing in (False, True):
        layers = case.layers()
        session = ReplaySession(replace(case.job, checkpointing=checkpointing), layers)
        session(lambda denoise: denoise(case.noise[0], 1.0, range(3)).square().mean().backward())
        gradients.append(torch.cat([p.grad.flatten() for p in layers.parameters.values()]))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-8)


def test_peft_adds_what_our_own_layers_add(case: Any) -> None:
    """Parameters, names and effect are those of `LoRALayers` on the same modules."""
    from pxpo_core.backends.diffusers.session import ReplaySession

    class Renamed(LoRALayers):
        def attached(self, root: Any) -> Any:
            return super().attached(Network(dict(case.model.network.named_modules())))

    class Network:
        def __init__(self, modules: Any) -> None:
            self.named_modules = modules.items

    x = case.noise[0]
    results = {}
    for layers in (case.layers(), Renamed(case.policy), None):
        session = ReplaySession(case.job, layers)
        results[type(layers)] = session(lambda d: d(x, 1.0, range(3)).detach())
    peft, hooks, base = results.values()
    torch.testing.assert_close(peft, hooks, rtol=1e-4, atol=1e-4)
    assert float((peft - base).abs().max()) > 1e-2
    assert case.layers().policy().digest == case.policy.digest


@pytest.mark.parametrize("fails", [False, True], ids=["done", "failed"])
def test_the_pipeline_is_left_as_it_was(case: Any, fails: bool) -> None:
    from pxpo_core.backends.diffusers.session import ReplaySession

    unet = case.pipeline.unet
    unet.conv_in.train()
    unet.conv_in.weight.requires_grad_(False)
    before = state_of(unet)
    case.rollout()

    def work(denoise: Any) -> None:
        denoise(case.noise[0], 1.0, range(3)).mean().backward()
        assert any("lora" in name for name, _ in unet.named_modules())
        if fails:
            raise KeyboardInterrupt

    session = ReplaySession(replace(case.job, checkpointing=True), case.layers())
    if fails:
        with pytest.raises(KeyboardInterrupt):
            session(work)
    else:
        session(work)
    assert state_of(unet) == before
    unet.conv_in.eval()
    unet.conv_in.weight.requires_grad_(True)


def test_another_adapter_in_the_way_is_refused(case: Any) -> None:
    import peft

    from pxpo_core.backends.diffusers.loading import PipelineError
    from pxpo_core.backends.diffusers.model import PipelineModel

    unet = case.pipeline.unet
    unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q"]))
    try:
        with pytest.raises(PipelineError, match="fuse_lora"), case.layers().attached(unet):
            pass
        with pytest.raises(PipelineError, match="unload_lora_weights"):
            PipelineModel(case.pipeline)
    finally:
        unet.unload_lora()
        for parameter in unet.parameters():
            parameter.requires_grad_(True)
    PipelineModel(case.pipeline)
