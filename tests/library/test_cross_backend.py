"""The ComfyUI backend and the diffusers backend on the same weights take the same step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import tiny_pipelines
import torch
from pxpo_dev.comfyui import ComfyUI

from pxpo_core.credit import advantage_map
from pxpo_core.lora import LoRAConfig, LoRALayers, Policy, new_policy
from pxpo_core.rollout import Trajectory, draw_noise
from pxpo_core.update import Experience, UpdateConfig, UpdateResult, update_policy

TOLERANCE = 1e-4
"""Largest difference of the two updates, relative to the update, in float32."""

BATCH, STEPS, SIZE, CFG = 3, 6, 8, 3.0
CONFIG = UpdateConfig(
    learning_rate=1e-3, train_steps=3, steps_per_rollout=1, micro_batch=2, anchor=0.05,
    anchor_region="everywhere",
)  # fmt: skip

COMMON = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32,
    "use_spatial_transformer": True, "use_temporal_attention": False, "legacy": False,
}  # fmt: skip
HOST = {
    # Every block of SD1.5, a tenth as wide.
    "sd15": {
        **COMMON, "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "transformer_depth_middle": 1, "context_dim": 32, "num_heads": 8,
        "use_linear_in_transformer": False, "adm_in_channels": None,
    },
    # SDXL's kinds of blocks, fewer and shallower.
    "sdxl": {
        **COMMON, "num_res_blocks": [1, 1], "channel_mult": [1, 2],
        "transformer_depth": [0, 2], "transformer_depth_output": [0, 0, 2, 2],
        "transformer_depth_middle": 2, "context_dim": 64, "num_head_channels": 16,
        "use_linear_in_transformer": True, "adm_in_channels": 2816, "num_classes": "sequential",
    },
}  # fmt: skip
DIFFUSERS = {
    "sd15": {
        "sample_size": SIZE, "block_out_channels": (32, 64, 128, 128), "cross_attention_dim": 32,
        "attention_head_dim": 8,
    },
    "sdxl": {
        **tiny_pipelines.SDXL_UNET, "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}  # fmt: skip


class Both:
    """One random network in both backends, with the same prompts."""

    def __init__(self, kind: str, prediction: str) -> None:
        import comfy.model_base
        import comfy.model_patcher
        import comfy.supported_models
        from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

        from pxpo_core.backends.diffusers.model import PipelineModel

        shared = {
            "unet": tiny_pipelines.unet(DIFFUSERS[kind]), "vae": tiny_pipelines.vae(),
            "scheduler": tiny_pipelines.scheduler(prediction), "text_encoder": None,
            "tokenizer": None,
        }  # fmt: skip
        if kind == "sdxl":
            pipeline = StableDiffusionXLPipeline(
                **shared, text_encoder_2=None, tokenizer_2=None, add_watermarker=False
            )
        else:
            pipeline = StableDiffusionPipeline(
                **shared, safety_checker=None, feature_extractor=None, requires_safety_checker=False
            )
        self.pipeline_model = PipelineModel(pipeline)
        base = {"sd15": comfy.supported_models.SD15, "sdxl": comfy.supported_models.SDXL}[kind]
        config = base(dict(HOST[kind]))
        config.unet_config = dict(HOST[kind])
        config.set_inference_dtype(torch.float32, None)
        model_type = comfy.model_base.ModelType[
            {"epsilon": "EPS", "v_prediction": "V_PREDICTION"}[prediction]
        ]
        build = comfy.model_base.SDXL if kind == "sdxl" else comfy.model_base.BaseModel
        model = build(config, model_type=model_type, device="cpu")
        model.diffusion_model.load_state_dict(self.pipeline_model.network.state_dict())
        cpu = torch.device("cpu")
        self.host_model = comfy.model_patcher.ModelPatcher(model, cpu, cpu)
        generator = torch.Generator().manual_seed(1)
        width = HOST[kind]["context_dim"]
        self.prompts = [torch.randn(1, 7, width, generator=generator) for _ in range(2)]
        self.pooled = [torch.randn(1, 1280, generator=generator) for _ in range(2)]
        self.is_xl = kind == "sdxl"
        sampling = self.host_model.get_model_object("model_sampling")
        import comfy.samplers

        self.sigmas = comfy.samplers.calculate_sigmas(sampling, "karras", STEPS)
        self.noise = draw_noise((4, SIZE, SIZE), 1 + STEPS, 3, 0, range(BATCH))
        reward = torch.randn((BATCH, 64, 64), generator=generator)
        self.advantage = advantage_map(reward, (SIZE, SIZE))

    def policy(self) -> Policy:
        """A LoRA that has learned something.

        On attention, not on all layers: GroupNorm's 32 groups are single channels in a UNet this
        narrow and remove what the embedding layers add, so their true gradient is 0, and Adam
        scales its rounding errors up to whole steps.
        """
        config = LoRAConfig(r=2, lora_alpha=3.0, target_modules="attention")
        policy = new_policy(self.pipeline_model.network, config)
        generator = torch.Generator().manual_seed(2)
        tensors = {
            name: 0.05 * torch.randn(tensor.shape, generator=generator)
            for name, tensor in policy.tensors.items()
        }
        return replace(policy, tensors=tensors)

    def in_comfyui(self, policy: Policy) -> tuple[Trajectory, UpdateResult]:
        from pxpo_core.backends.comfy.session import ReplaySession, SamplingJob, sample

        conds = [
            [[prompt, {"pooled_output": pooled} if self.is_xl else {}]]
            for prompt, pooled in zip(self.prompts, self.pooled, strict=True)
        ]
        job = SamplingJob(
            model=self.host_model, positive=conds[0], negative=conds[1], cfg=CFG,
            sigmas=self.sigmas, noise=self.noise[0],
            latent_image=torch.zeros_like(self.noise[0]), noise_mask=None, seed=0,
        )  # fmt: skip
        layers = LoRALayers(policy)
        _, trajectory = sample(job, layers, 1.0, self.noise[1:])
        return trajectory, self.update(trajectory, layers, lambda part: ReplaySession(job, part))

    def in_diffusers(self, policy: Policy) -> tuple[Trajectory, UpdateResult]:
        from pxpo_core.backends.diffusers.conditioning import Prompt
        from pxpo_core.backends.diffusers.peft_layers import PEFTLayers
        from pxpo_core.backends.diffusers.session import ReplaySession, SamplingJob, sample

        edge = 8 * SIZE
        time_ids = torch.tensor([[edge, edge, 0.0, 0.0, edge, edge]]).expand(BATCH, -1)
        prompts = [
            Prompt(prompt.expand(BATCH, -1, -1), pooled.expand(BATCH, -1), time_ids)
            if self.is_xl
            else Prompt(prompt.expand(BATCH, -1, -1))
            for prompt, pooled in zip(self.prompts, self.pooled, strict=True)
        ]
        sigmas = tuple(float(sigma) for sigma in self.sigmas)
        job = SamplingJob(self.pipeline_model, *prompts, CFG, sigmas)
        layers = PEFTLayers(policy, self.pipeline_model.network.names)
        trajectory = sample(job, layers, 1.0, self.noise)
        return trajectory, self.update(trajectory, layers, lambda part: ReplaySession(job, part))

    def update(self, trajectory: Trajectory, layers: LoRALayers, session: Any) -> UpdateResult:
        experience = Experience(trajectory, self.advantage, session(layers), session(None))
        return update_policy([experience], layers, {}, CONFIG, seed=1)


@pytest.fixture(scope="module", params=["sd15-epsilon", "sd15-v_prediction", "sdxl-epsilon"])
def both(request: pytest.FixtureRequest, comfyui: ComfyUI) -> Both:
    return Both(*request.param.split("-"))


def flat(tensors: Any) -> torch.Tensor:
    return torch.cat([tensors[name].flatten().double() for name in sorted(tensors)])


def test_the_same_rollout_and_reward_give_the_same_update(
    both: Both, record_property: pytest.RecordProperty
) -> None:
    policy = both.policy()
    host_path, host = both.in_comfyui(policy)
    path, ours = both.in_diffusers(policy)
    spread = float(host_path.x_0.std())
    pictures = float((path.x_0 - host_path.x_0).abs().max()) / spread
    start = flat(policy.tensors)
    update, host_update = (flat(r.policy.tensors) - start for r in (ours, host))
    difference = float((update - host_update).norm() / host_update.norm())
    gradients, host_gradients = (
        flat({n: t for n, t in r.optimizer.items() if n.endswith("exp_avg")}) for r in (ours, host)
    )
    gradient = float((gradients - host_gradients).norm() / host_gradients.norm())
    record_property("update_difference", f"{difference:.1e}")
    record_property("gradient_difference", f"{gradient:.1e}")
    record_property("picture_difference", f"{pictures:.1e}")
    assert float(host_update.norm()) > 1e-2
    assert pictures <= TOLERANCE
    assert gradient <= TOLERANCE
    assert difference <= TOLERANCE


def test_a_run_of_one_backend_opens_in_the_other(both: Both) -> None:
    from pxpo_core.backends.comfy.host_model import fingerprint
    from pxpo_core.lora import TARGETS, check_fits

    network = both.host_model.model.diffusion_model
    assert both.pipeline_model.fingerprint() == fingerprint(both.host_model)
    for target in TARGETS:
        config = LoRAConfig(target_modules=target)
        ours, hosts = new_policy(both.pipeline_model.network, config), new_policy(network, config)
        assert ours.digest == hosts.digest
        check_fits(hosts, both.pipeline_model.network)
        check_fits(ours, network)
