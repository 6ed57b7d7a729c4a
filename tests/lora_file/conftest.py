"""UNets of SD1.5 and SDXL: every layer of the real ones, a tenth as wide, with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pytest
import torch
from pxpo_dev.comfyui import ComfyUI

from pxpo_core.credit import advantage_map
from pxpo_core.lora import ALL_LAYERS, LoRAConfig, LoRALayers, Policy, new_policy
from pxpo_core.rollout import draw_noise
from pxpo_core.update import UpdateConfig

LATENT = 16
COMMON = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "use_spatial_transformer": True,
    "use_temporal_attention": False,
    "legacy": False,
}
SD15 = {
    **COMMON,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2],
    "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "context_dim": 768,
    "num_heads": 8,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
}
SDXL = {
    **COMMON,
    "model_channels": 320,
    "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4],
    "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
    "transformer_depth_middle": 10,
    "context_dim": 2048,
    "num_head_channels": 64,
    "use_linear_in_transformer": True,
    "adm_in_channels": 2816,
    "num_classes": "sequential",
}
REAL = {"sd15": SD15, "sdxl": SDXL}
NARROW = {
    "sd15": {**SD15, "model_channels": 32},
    "sdxl": {**SDXL, "model_channels": 32, "num_head_channels": 16},
}
DIFFUSERS = {
    "sd15": {
        "block_out_channels": (32, 64, 128, 128),
        "cross_attention_dim": 768,
        "attention_head_dim": 8,
    },
    "sdxl": {
        "block_out_channels": (32, 64, 128),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "cross_attention_dim": 2048,
        "attention_head_dim": (2, 4, 8),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


@pytest.fixture(params=["sd15", "sdxl"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def unet_config(kind: str) -> dict[str, Any]:
    """The full-size model's."""
    return REAL[kind]


@pytest.fixture(scope="session")
def make_unet(comfyui: ComfyUI) -> Callable[[str], UNet]:
    """The narrow model of a kind, with a LoRA trained for one round; made once."""
    made: dict[str, UNet] = {}

    def make(kind: str) -> UNet:
        if kind not in made:
            model = _model(kind)
            made[kind] = UNet(kind, model, _trained(model, kind))
        return made[kind]

    return make


@pytest.fixture
def unet(make_unet: Callable[[str], UNet], kind: str) -> UNet:
    return make_unet(kind)


@dataclass(repr=False)
class UNet:
    """A host MODEL and a policy trained on it (all layers, rank 4, alpha 2)."""

    kind: str
    model: Any
    policy: Policy

    @property
    def network(self) -> torch.nn.Module:
        network: torch.nn.Module = self.model.model.diffusion_model
        return network

    @cached_property
    def base(self) -> torch.Tensor:
        """The prediction without a LoRA."""
        return self.predict()

    @cached_property
    def trained(self) -> torch.Tensor:
        """The prediction of the trained policy, as in training."""
        return self.predict_with(self.policy)

    def inputs(self) -> dict[str, torch.Tensor]:
        """One call of the network: x, timesteps, context and, for SDXL, the parts of y."""
        generator = torch.Generator().manual_seed(11)
        inputs = {
            "x": torch.randn(2, 4, LATENT, LATENT, generator=generator),
            "timesteps": torch.tensor([321.0, 654.0]),
            "context": torch.randn(2, 5, REAL[self.kind]["context_dim"], generator=generator),
        }
        if self.kind == "sdxl":
            inputs["pooled"] = torch.randn(2, 1280, generator=generator)
            inputs["time_ids"] = torch.tensor([[128.0, 128, 0, 0, 128, 128]] * 2)
        return inputs

    @torch.no_grad()
    def predict(self) -> torch.Tensor:
        """What the host's network makes of the inputs."""
        from comfy.ldm.modules.diffusionmodules.openaimodel import timestep_embedding

        inputs = self.inputs()
        y = None
        if self.kind == "sdxl":
            times = timestep_embedding(inputs["time_ids"].flatten(), 256).reshape(2, -1)
            y = torch.cat([inputs["pooled"], times], dim=1)
        result: torch.Tensor = self.network(
            inputs["x"], inputs["timesteps"], context=inputs["context"], y=y
        )
        return result

    def predict_with(self, policy: Policy) -> torch.Tensor:
        """The same with a policy, as in training."""
        with LoRALayers(policy).attached(self.network):
            return self.predict()

    def diffusers_unet(self) -> Any:
        """diffusers' UNet with the same weights."""
        import comfy.utils
        from diffusers import UNet2DConditionModel

        unet = UNet2DConditionModel(sample_size=LATENT, **DIFFUSERS[self.kind])
        theirs, ours = unet.state_dict(), self.network.state_dict()
        names = comfy.utils.unet_to_diffusers(NARROW[self.kind])
        unet.load_state_dict({name: ours[names[name]].clone() for name in theirs})
        return unet.eval()

    @torch.no_grad()
    def predict_in_diffusers(self, unet: Any) -> torch.Tensor:
        inputs = self.inputs()
        added = {"text_embeds": inputs.get("pooled"), "time_ids": inputs.get("time_ids")}
        result: torch.Tensor = unet(
            inputs["x"],
            inputs["timesteps"],
            encoder_hidden_states=inputs["context"],
            added_cond_kwargs=added,
        ).sample
        return result


def _model(kind: str) -> Any:
    import comfy.model_patcher
    import comfy.supported_models

    base = {"sd15": comfy.supported_models.SD15, "sdxl": comfy.supported_models.SDXL}[kind]
    config = base(dict(NARROW[kind]))
    config.unet_config = dict(NARROW[kind])
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.data.normal_(std=spread, generator=generator)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


def _trained(model: Any, kind: str) -> Policy:
    """One round on random rewards: every layer's LoRA has moved."""
    import comfy.samplers

    from pxpo_core.backends.comfy.policy_model import RunIdentity
    from pxpo_core.backends.comfy.rollout import Rollout
    from pxpo_core.backends.comfy.session import SamplingJob, sample
    from pxpo_core.backends.comfy.train import train_round

    config = LoRAConfig(r=4, lora_alpha=2.0, target_modules=ALL_LAYERS)
    policy = new_policy(model.model.diffusion_model, config)
    generator = torch.Generator().manual_seed(5)
    context = torch.randn(1, 5, NARROW[kind]["context_dim"], generator=generator)
    conditioning = [[context, {"pooled_output": torch.randn(1, 1280, generator=generator)}]]
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", 3)
    noise = draw_noise((4, LATENT, LATENT), 4, 0, 0, range(2))
    job = SamplingJob(
        model,
        conditioning,
        conditioning,
        1.0,
        sigmas,
        noise[0],
        torch.zeros_like(noise[0]),
        None,
        0,
    )
    _, trajectory = sample(job, LoRALayers(policy), 1.0, noise[1:])
    rollout = Rollout(trajectory, job, policy, RunIdentity("files", None, 0), "base")
    reward = torch.randn(2, 64, 64, generator=generator)
    advantage = advantage_map(reward, (LATENT, LATENT))
    update = UpdateConfig(learning_rate=3e-2, train_steps=1, micro_batch=2)
    return train_round([rollout], [advantage], policy, {}, update, 1).policy
