"""The benchmark's own way of calling Toy Faces agrees with the ComfyUI session of the nodes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.learn.world import LATENT, Settings, ToyWorld, WorldSession
from pxpo_core.credit import Advantage
from pxpo_core.lora import LoRALayers, Policy
from pxpo_core.rollout import Trajectory, draw_noise
from pxpo_core.update import Experience, UpdateConfig, update_policy

STEPS = 3


@pytest.fixture(scope="module")
def world(comfyui: object) -> ToyWorld:
    del comfyui
    return ToyWorld(Settings(steps=STEPS), fast=False, threads=1)


@pytest.fixture(scope="module")
def policy(world: ToyWorld) -> Policy:
    """A LoRA that does something."""
    fresh = world.new_policy()
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: t if "down" in name else 0.02 * torch.randn(t.shape, generator=generator)
        for name, t in fresh.tensors.items()
    }
    return Policy(fresh.config, tensors)


def session_trajectory(policy: Policy | None, prompt: str, count: int) -> tuple[Any, Trajectory]:
    """The same pictures by the nodes' own path."""
    import comfy.samplers

    from demo.toy_faces.loader import load_toy_faces
    from pxpo_core.backends.comfy import session

    with torch.inference_mode():
        model, clip, vae = load_toy_faces()
        positive, negative = (
            clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in (prompt, "")
        )
        sampling = model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "karras", STEPS)
        noise = draw_noise(LATENT, STEPS + 1, 7, 1, range(count))
        job = session.SamplingJob(
            model, positive, negative, 3.5, sigmas, noise[0], torch.zeros(count, *LATENT), None, 0
        )
        layers = None if policy is None else LoRALayers(policy)
        latent, trajectory = session.sample(job, layers, 1.0, noise[1:])
        return vae.decode(latent), trajectory


def test_samples_and_pictures_are_the_nodes(world: ToyWorld, policy: Policy) -> None:
    pictures, theirs = session_trajectory(policy, "portrait, smiling", 3)
    ours = world.sample(policy, ["portrait, smiling"] * 3, 7, 1)
    spread = float(theirs.x_0.std())
    assert ours.sigmas == theirs.sigmas
    assert float((ours.states - theirs.states).abs().max()) < 1e-3 * spread
    assert float((ours.x_0 - theirs.x_0).abs().max()) < 1e-3 * spread
    assert float((world.decode(ours.x_0) - pictures).abs().max()) < 2e-3


def test_each_picture_gets_its_own_prompt(world: ToyWorld) -> None:
    mixed = world.sample(None, ["portrait, smiling", "portrait, dark skin"], 7, 1)
    alone = world.sample(None, ["portrait, smiling"] * 2, 7, 1)
    torch.testing.assert_close(mixed.x_0[0], alone.x_0[0], atol=1e-4, rtol=1e-3)
    assert float((mixed.x_0[1] - alone.x_0[1]).abs().max()) > 0.05


def test_gradient_is_that_of_the_lora_layers(world: ToyWorld, policy: Policy) -> None:
    """Merged weights give the update that hooks on the layers give."""
    asked = ["portrait", "portrait, smiling"]
    trajectory = world.sample(policy, asked, 3, 1)
    advantage = Advantage(torch.randn(2, 32, 32), 1.0, 1.0)

    def hooked(layers: LoRALayers) -> Any:
        inner = WorldSession(world, None, asked)

        def session(work: Any) -> Any:
            with layers.attached(world.network):
                return inner(work)

        return session

    results = []
    for make in (lambda layers: WorldSession(world, layers, asked), hooked):
        layers = LoRALayers(policy)
        experience = Experience(trajectory, advantage, make(layers))
        config = UpdateConfig(learning_rate=1e-3, train_steps=1, steps_per_rollout=1, micro_batch=2)
        results.append(update_policy([experience], layers, {}, config, 0))
    assert results[0].grad_norm == pytest.approx(results[1].grad_norm, rel=1e-3)
    # Adam's first moment after one step is the gradient: its step itself forgets the scale.
    first, second = (
        torch.cat([result.optimizer[f"{n}.exp_avg"].flatten() for n in sorted(policy.tensors)])
        for result in results
    )
    assert float((first - second).norm()) < 1e-3 * float(second.norm())
    assert float(second.norm()) > 0.0
