"""A small random SD1.5-shaped MODEL, sampled and trained through the real ComfyUI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pxpo_dev.comfyui import ComfyUI

from pxpo_core.credit import advantage_map
from pxpo_core.lora import LoRAConfig, LoRALayers, Policy, new_policy
from pxpo_core.rollout import draw_noise
from pxpo_core.update import UpdateConfig, UpdateResult

UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": (1, 2),
    "num_heads": 4,
    "use_spatial_transformer": True,
    "transformer_depth": [1, 1],
    "transformer_depth_output": [1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "context_dim": 16,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "legacy": False,
}
STEPS = 6


@pytest.fixture
def inference_mode(comfyui: ComfyUI) -> Iterator[None]:
    """What every node body runs in."""
    with torch.inference_mode():
        yield


@pytest.fixture
def tiny(inference_mode: None) -> Tiny:
    return Tiny(_model(), _conditioning(1), _conditioning(2))


@dataclass
class Tiny:
    """A model with its prompts, and the calls nodes make."""

    model: Any
    positive: Any
    negative: Any

    def policy(self, target_modules: str = "all layers") -> Policy:
        config = LoRAConfig(r=4, lora_alpha=4.0, target_modules=target_modules)
        return new_policy(self.model.model.diffusion_model, config)

    def rollout(self, policy: Policy | None, batch: int = 3, model: Any = None) -> Any:
        from pxpo_core.backends.comfy.policy_model import RunIdentity, detach_policy
        from pxpo_core.backends.comfy.rollout import Rollout
        from pxpo_core.backends.comfy.session import SamplingJob, sample

        model = detach_policy(model or self.model)
        noise = draw_noise((4, 8, 8), STEPS + 1, 0, 0, range(batch))
        job = SamplingJob(
            model, self.positive, self.negative, 3.0, sigmas(model), noise[0],
            torch.zeros(batch, 4, 8, 8), None, 0,
        )  # fmt: skip
        layers = None if policy is None else LoRALayers(policy)
        _, trajectory = sample(job, layers, 1.0, noise[1:])
        return Rollout(trajectory, job, policy, RunIdentity("tiny", None, 0), "base")

    def train(self, rollout: Any, config: UpdateConfig, progress: Any = None) -> UpdateResult:
        from pxpo_core.backends.comfy.train import train_round

        reward = torch.randn(
            rollout.trajectory.batch, 64, 64, generator=torch.Generator().manual_seed(3)
        )
        advantage = advantage_map(reward, (8, 8))
        return train_round([rollout], [advantage], rollout.policy, {}, config, 1, progress)

    def pictures(self, model: Any = None) -> torch.Tensor:
        """What a stock KSampler makes."""
        import comfy.sample

        noise = draw_noise((4, 8, 8), 1, 5, 0, range(2))[0]
        return comfy.sample.sample(
            model or self.model, noise, STEPS, 3.0, "euler_ancestral", "karras",
            self.positive, self.negative, torch.zeros_like(noise), disable_pbar=True, seed=5,
        )  # fmt: skip

    def fingers(self) -> tuple[Any, ...]:
        """Everything we promise to leave alone, apart from the pictures."""
        network = self.model.model
        return (
            [name for name, _ in network.named_modules()],
            sorted(network.state_dict()),
            sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()),
            [(p.requires_grad, p.dtype, p.device, p.shape) for p in network.parameters()],
            [p.grad is None for p in network.parameters()],
        )


def sigmas(model: Any) -> torch.Tensor:
    import comfy.samplers

    return comfy.samplers.calculate_sigmas(
        model.get_model_object("model_sampling"), "karras", STEPS
    )


def _model() -> Any:
    import comfy.model_patcher
    import comfy.supported_models

    class Config(comfy.supported_models.SD15):
        unet_config = UNET
        unet_extra_config = {"num_heads": 4, "num_head_channels": -1}  # noqa: RUF012

    config = Config(UNET)
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.normal_(std=0.05, generator=generator)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


def _conditioning(seed: int) -> Any:
    return [[torch.randn(1, 7, 16, generator=torch.Generator().manual_seed(seed)), {}]]
