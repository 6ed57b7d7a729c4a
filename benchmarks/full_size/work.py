"""One round's parts at full size: sampling, and the update of what was sampled."""

from __future__ import annotations

from typing import Any

import torch

from pxpo_core.lora import ATTENTION, LoRAConfig, LoRALayers, Policy, new_policy
from pxpo_core.rollout import draw_noise

from .models import FullModel


def first_policy(full: FullModel) -> Policy:
    """A LoRA of rank 8 in the attention layers that has learned nothing."""
    config = LoRAConfig(target_modules=ATTENTION)
    return new_policy(full.model.model.diffusion_model, config)


def job_and_noise(full: FullModel, size: int, steps: int, batch: int, cfg: float) -> Any:
    """size: of the picture, in pixels. Returns the job and the noise of its steps."""
    import comfy.samplers

    from pxpo_core.backends.comfy.session import SamplingJob

    sampling = full.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "karras", steps)
    noise = draw_noise((4, size // 8, size // 8), steps + 1, 0, 0, range(batch))
    job = SamplingJob(
        full.model, full.positive, full.negative, cfg, sigmas, noise[0],
        torch.zeros_like(noise[0]), None, 0,
    )  # fmt: skip
    return job, noise[1:]


def sample_rollout(
    full: FullModel, policy: Policy, size: int, steps: int, batch: int, cfg: float
) -> Any:
    from pxpo_core.backends.comfy.policy_model import RunIdentity
    from pxpo_core.backends.comfy.rollout import Rollout
    from pxpo_core.backends.comfy.session import sample

    job, noises = job_and_noise(full, size, steps, batch, cfg)
    _, trajectory = sample(job, LoRALayers(policy), 1.0, noises)
    return Rollout(trajectory, job, policy, RunIdentity("full", None, 0), "base")
