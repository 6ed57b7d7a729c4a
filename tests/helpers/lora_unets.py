"""UNets of SD1.5 and SDXL: every layer of the real ones, with random weights, of any width."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

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


def diffusers_settings(unet: Mapping[str, Any]) -> dict[str, Any]:
    """diffusers' words for the same UNet."""
    channels = unet["model_channels"]
    widths = tuple(channels * multiple for multiple in unet["channel_mult"])
    common = {"block_out_channels": widths, "cross_attention_dim": unet["context_dim"]}
    if unet["adm_in_channels"] is None:
        return {**common, "attention_head_dim": unet["num_heads"]}
    return {
        **common,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        # diffusers' name for the number of heads
        "attention_head_dim": tuple(width // unet["num_head_channels"] for width in widths),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": unet["adm_in_channels"],
    }


@dataclass(repr=False)
class UNet:
    """A host MODEL and a policy trained on it (all layers, rank 4, alpha 2).

    settings: the host's of the network. latent: the size of the latents it is asked about.
    """

    kind: str
    settings: Mapping[str, Any]
    model: Any
    policy: Policy
    dtype: torch.dtype = torch.float32
    latent: int = LATENT

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
            "x": torch.randn(2, 4, self.latent, self.latent, generator=generator),
            "timesteps": torch.tensor([321.0, 654.0]),
            "context": torch.randn(2, 5, self.settings["context_dim"], generator=generator),
        }
        if self.kind == "sdxl":
            inputs["pooled"] = torch.randn(2, 1280, generator=generator)
            inputs["time_ids"] = torch.tensor([[128.0, 128, 0, 0, 128, 128]] * 2)
        exact = ("timesteps", "time_ids")
        return {k: v if k in exact else v.to(self.dtype) for k, v in inputs.items()}

    @torch.no_grad()
    def predict(self) -> torch.Tensor:
        """What the host's network makes of the inputs."""
        from comfy.ldm.modules.diffusionmodules.openaimodel import timestep_embedding

        inputs = self.inputs()
        y = None
        if self.kind == "sdxl":
            times = timestep_embedding(inputs["time_ids"].flatten(), 256).reshape(2, -1)
            y = torch.cat([inputs["pooled"], times.to(self.dtype)], dim=1)
        result: torch.Tensor = self.network(
            inputs["x"], inputs["timesteps"], context=inputs["context"], y=y
        )
        return result.float()

    def predict_with(self, policy: Policy) -> torch.Tensor:
        """The same with a policy, as in training."""
        with LoRALayers(policy).attached(self.network):
            return self.predict()

    def diffusers_unet(self, share: bool = False) -> Any:
        """diffusers' UNet with the same weights; share: in the same memory."""
        import comfy.utils
        from diffusers import UNet2DConditionModel

        with torch.device("meta"):
            unet = UNet2DConditionModel(
                sample_size=self.latent, **diffusers_settings(self.settings)
            )
        ours = self.network.state_dict()
        names = comfy.utils.unet_to_diffusers(dict(self.settings))
        weights = {name: ours[names[name]] for name in unet.state_dict()}
        if not share:
            weights = {name: tensor.clone() for name, tensor in weights.items()}
        unet.load_state_dict(weights, assign=True)
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
        return result.float()


def trained_unet(
    kind: str,
    settings: Mapping[str, Any],
    dtype: torch.dtype = torch.float32,
    latent: int = LATENT,
    batch: int = 2,
) -> UNet:
    """A random model of a kind, with a LoRA trained for one round."""
    model = _model(kind, settings, dtype)
    policy = _trained(model, settings, latent, batch)
    return UNet(kind, settings, model, policy, dtype, latent)


def _model(kind: str, settings: Mapping[str, Any], dtype: torch.dtype) -> Any:
    import comfy.model_patcher
    import comfy.supported_models

    base = {"sd15": comfy.supported_models.SD15, "sdxl": comfy.supported_models.SDXL}[kind]
    config = base(dict(settings))
    config.unet_config = dict(settings)
    config.set_inference_dtype(dtype, None)
    model = config.get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
        parameter.data.normal_(std=spread, generator=generator)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


def _trained(model: Any, settings: Mapping[str, Any], latent: int, batch: int) -> Policy:
    """One round on random rewards: every layer's LoRA has moved."""
    import comfy.samplers

    from pxpo_core.backends.comfy.policy_model import RunIdentity
    from pxpo_core.backends.comfy.rollout import Rollout
    from pxpo_core.backends.comfy.session import SamplingJob, sample
    from pxpo_core.backends.comfy.train import train_round

    config = LoRAConfig(r=4, lora_alpha=2.0, target_modules=ALL_LAYERS)
    policy = new_policy(model.model.diffusion_model, config)
    generator = torch.Generator().manual_seed(5)
    context = torch.randn(1, 5, settings["context_dim"], generator=generator)
    conditioning = [[context, {"pooled_output": torch.randn(1, 1280, generator=generator)}]]
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", 3)
    noise = draw_noise((4, latent, latent), 4, 0, 0, range(batch))
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
    reward = torch.randn(batch, 8 * latent, 8 * latent, generator=generator)
    advantage = advantage_map(reward, (latent, latent))
    update = UpdateConfig(learning_rate=3e-2, train_steps=1, micro_batch=batch)
    return train_round([rollout], [advantage], policy, {}, update, 1).policy
