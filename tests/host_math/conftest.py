"""Small random models of every family, built by the real ComfyUI and called by its own guider."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from pxpo_dev.comfyui import ComfyUI

from pxpo_core.rollout import draw_noise

BATCH, STEPS = 3, 6

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32,
    "num_res_blocks": [1, 1], "channel_mult": (1, 2), "num_heads": 4,
    "use_spatial_transformer": True, "transformer_depth": [0, 1],
    "transformer_depth_output": [0, 0, 1, 1], "transformer_depth_middle": 1, "context_dim": 16,
    "use_linear_in_transformer": True, "adm_in_channels": None, "use_temporal_attention": False,
    "legacy": False,
}  # fmt: skip
MMDIT = {
    "input_size": None, "patch_size": 2, "in_channels": 16, "depth": 2, "adm_in_channels": 12,
    "context_embedder_config": {
        "target": "torch.nn.Linear", "params": {"in_features": 16, "out_features": 128},
    },
    "pos_embed_max_size": 16, "num_patches": 256, "pos_embed_scaling_factor": None,
}  # fmt: skip
FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2,
    "vec_in_dim": 12, "context_in_dim": 16, "hidden_size": 48, "mlp_ratio": 2.0, "num_heads": 2,
    "depth": 1, "depth_single_blocks": 2, "axes_dim": [8, 8, 8], "theta": 10000, "qkv_bias": True,
    "guidance_embed": True,
}  # fmt: skip

VP = ("sd15_eps", "sdxl_eps", "v_prediction", "v_prediction_zsnr", "edm")
FLOW = ("unet_flow", "sd3", "flux")


@dataclass
class Family:
    """A MODEL with prompts, and the job of sampling it."""

    name: str
    model: Any
    positive: Any
    negative: Any
    channels: int
    cfg: float = 3.0
    scheduler: str = "karras"

    def sigmas(self, scheduler: str | None = None) -> torch.Tensor:
        import comfy.samplers

        sampling = self.model.get_model_object("model_sampling")
        return comfy.samplers.calculate_sigmas(sampling, scheduler or self.scheduler, STEPS)

    def noise(self, batch: int = BATCH) -> torch.Tensor:
        """[1 + STEPS, batch, C, h, w]: x_T's first."""
        return draw_noise((self.channels, 8, 8), 1 + STEPS, 3, 0, range(batch))

    def job(self, sigmas: torch.Tensor | None = None, batch: int = BATCH) -> Any:
        from pxpo_core.backends.comfy.session import SamplingJob

        noise = self.noise(batch)
        return SamplingJob(
            model=self.model, positive=self.positive, negative=self.negative, cfg=self.cfg,
            sigmas=self.sigmas() if sigmas is None else sigmas, noise=noise[0],
            latent_image=torch.zeros_like(noise[0]), noise_mask=None, seed=0,
        )  # fmt: skip

    def ours(self, eta: float, sigmas: torch.Tensor | None = None) -> torch.Tensor:
        from pxpo_core.backends.comfy.session import sample

        return sample(self.job(sigmas), None, eta, self.noise()[1:])[0]

    def hosts(
        self, sampler: str, sigmas: torch.Tensor | None = None, **options: Any
    ) -> torch.Tensor:
        """What the host's own sampler makes of the same x_T and the same noise per step."""
        import comfy.k_diffusion.sampling
        import comfy.samplers

        job, noises = self.job(sigmas), iter(self.noise()[1:])
        if sampler != "euler":
            options["noise_sampler"] = lambda sigma, sigma_next: next(noises)
        function = getattr(comfy.k_diffusion.sampling, f"sample_{sampler}")
        guider = comfy.samplers.CFGGuider(self.model)
        guider.set_conds(self.positive, self.negative)
        guider.set_cfg(self.cfg)
        return guider.sample(
            job.noise, job.latent_image, comfy.samplers.KSAMPLER(function, options), job.sigmas,
            disable_pbar=True, seed=0,
        )  # fmt: skip


@pytest.fixture(scope="session")
def build(comfyui: ComfyUI) -> Callable[[str], Family]:
    built: dict[str, Family] = {}

    def once(name: str) -> Family:
        if name not in built:
            with torch.inference_mode():
                built[name] = _build(name)
        return built[name]

    return once


@pytest.fixture
def family(request: pytest.FixtureRequest, build: Callable[[str], Family]) -> Iterator[Family]:
    """The family named by indirect parametrisation, in what every node body runs in."""
    made = build(request.param)
    with torch.inference_mode():
        yield made


def _build(name: str) -> Family:
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models as supported
    from comfy.model_base import ModelType

    prompt: dict[str, int] = {}
    if name == "sd3":
        base, settings, kind = supported.SD3, MMDIT, comfy.model_base.SD3
        model_type, prompt = ModelType.FLOW, {"pooled_output": 12}
    elif name == "flux":
        base, settings, kind = supported.Flux, FLUX, comfy.model_base.Flux
        model_type, prompt = ModelType.FLUX, {"pooled_output": 12}
    elif name == "sdxl_eps":
        base, kind, model_type = supported.SDXL, comfy.model_base.SDXL, ModelType.EPS
        settings = {**UNET, "adm_in_channels": 2816, "num_classes": "sequential"}
        prompt = {"pooled_output": 1280}
    else:
        base, settings, kind = supported.SD15, UNET, comfy.model_base.BaseModel
        model_type = {
            "sd15_eps": ModelType.EPS, "v_prediction": ModelType.V_PREDICTION,
            "v_prediction_zsnr": ModelType.V_PREDICTION, "edm": ModelType.EDM,
            "unet_flow": ModelType.FLOW,
        }[name]  # fmt: skip

    class Config(base):  # type: ignore[misc,valid-type]
        unet_config = settings
        unet_extra_config: dict[str, Any] = {} if name in ("sd3", "flux") else {
            "num_heads": 4, "num_head_channels": -1,
        }  # fmt: skip

    config = Config(settings)
    if name == "v_prediction_zsnr":
        config.sampling_settings["zsnr"] = True
    config.set_inference_dtype(torch.float32, None)
    model = kind(config, model_type=model_type, device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.normal_(std=0.05, generator=generator)
    cpu = torch.device("cpu")
    return Family(
        name=name,
        model=comfy.model_patcher.ModelPatcher(model, cpu, cpu),
        positive=_conditioning(1, prompt),
        negative=_conditioning(2, prompt),
        channels=16 if name in ("sd3", "flux") else 4,
        scheduler="simple" if name in FLOW else "karras",
    )


def _conditioning(seed: int, extra: dict[str, int]) -> Any:
    generator = torch.Generator().manual_seed(seed)
    values = {key: torch.randn(1, size, generator=generator) for key, size in extra.items()}
    return [[torch.randn(1, 7, 16, generator=generator), values]]
