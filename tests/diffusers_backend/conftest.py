"""Tiny pipelines of both kinds and both predictions, with what a rollout on them needs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tiny_pipelines
import torch
from pxpo_dev.launch import import_torchvision

from pxpo_core.lora import LoRAConfig, Policy, new_policy
from pxpo_core.rollout import draw_noise

BATCH, STEPS = 3, 5


class Case:
    """A pipeline's model, a policy that has learned something, and a job for three samples."""

    def __init__(self, pipeline: Any) -> None:
        from pxpo_core.backends.diffusers.conditioning import encode
        from pxpo_core.backends.diffusers.model import PipelineModel
        from pxpo_core.backends.diffusers.schedule import karras
        from pxpo_core.backends.diffusers.session import SamplingJob

        self.pipeline, self.model = pipeline, PipelineModel(pipeline)
        prompts = encode(pipeline, ["a cat", "a red house", "blue"], "ugly", 64, 64)
        self.job = SamplingJob(self.model, *prompts, 3.0, karras(self.model.levels, STEPS))
        self.noise = draw_noise((4, 8, 8), 1 + STEPS, 3, 0, range(BATCH))
        config = LoRAConfig(r=2, lora_alpha=3.0, target_modules="all layers")
        policy = new_policy(self.model.network, config)
        generator = torch.Generator().manual_seed(1)
        self.policy: Policy = replace(
            policy,
            tensors={
                name: 0.05 * torch.randn(tensor.shape, generator=generator)
                for name, tensor in policy.tensors.items()
            },
        )

    def layers(self, policy: Policy | None = None) -> Any:
        from pxpo_core.backends.diffusers.peft_layers import PEFTLayers

        return PEFTLayers(policy or self.policy, self.model.network.names)

    def rollout(self, **changes: Any) -> Any:
        from pxpo_core.backends.diffusers.session import sample

        return sample(replace(self.job, **changes), self.layers(), 1.0, self.noise)


@pytest.fixture(scope="session", autouse=True)
def torchvision() -> None:
    """diffusers imports it."""
    import_torchvision()


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    folder = tmp_path_factory.mktemp("words")
    return {
        f"{kind}-{prediction}": Case(make(folder, prediction))
        for kind, make in tiny_pipelines.KINDS.items()
        for prediction in ("epsilon", "v_prediction")
    }


@pytest.fixture(params=["sd15-v_prediction", "sdxl-epsilon"])
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    return cases[request.param]
