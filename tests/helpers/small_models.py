"""Small random models of every family a user loads, built from the real ComfyUI's own classes.

Depth and width are reduced; the weights are random everywhere, also in the layers a fresh network
has at zero, so that every gradient is real. Importing this module imports nothing of ComfyUI.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from pxpo_core.rollout import draw_noise

TEXT = 16
"""Width of the made-up text embeddings."""

UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32,
    "num_res_blocks": [1, 1], "channel_mult": (1, 2), "num_heads": 4,
    "use_spatial_transformer": True, "transformer_depth": [0, 1],
    "transformer_depth_output": [0, 0, 1, 1], "transformer_depth_middle": 1, "context_dim": TEXT,
    "use_linear_in_transformer": True, "adm_in_channels": None, "use_temporal_attention": False,
    "legacy": False,
}  # fmt: skip
SD15_UNET = {**UNET, "use_linear_in_transformer": False}
SDXL_UNET = {**UNET, "adm_in_channels": 2816, "num_classes": "sequential"}
MMDIT = {
    "input_size": None, "patch_size": 2, "in_channels": 16, "depth": 2, "adm_in_channels": 12,
    "context_embedder_config": {
        "target": "torch.nn.Linear", "params": {"in_features": TEXT, "out_features": 128},
    },
    "pos_embed_max_size": 16, "num_patches": 256, "pos_embed_scaling_factor": None,
}  # fmt: skip
FLUX = {
    "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2,
    "vec_in_dim": 12, "context_in_dim": TEXT, "hidden_size": 48, "mlp_ratio": 2.0, "num_heads": 2,
    "depth": 2, "depth_single_blocks": 3, "axes_dim": [8, 8, 8], "theta": 10000, "qkv_bias": True,
    "guidance_embed": True, "txt_ids_dims": [],
}  # fmt: skip
FLUX2 = {
    "image_model": "flux2", "in_channels": 128, "out_channels": 128, "patch_size": 1,
    "vec_in_dim": None, "context_in_dim": TEXT, "hidden_size": 64, "mlp_ratio": 3.0,
    "num_heads": 2, "depth": 2, "depth_single_blocks": 2, "axes_dim": [8, 8, 8, 8], "theta": 2000,
    "qkv_bias": False, "guidance_embed": False, "global_modulation": True, "mlp_silu_act": True,
    "ops_bias": False, "default_ref_method": "index", "ref_index_scale": 10.0,
    "txt_ids_dims": [3],
}  # fmt: skip
CHROMA = {
    "image_model": "chroma", "in_channels": 64, "out_channels": 64, "patch_size": 2,
    "context_in_dim": TEXT, "hidden_size": 48, "mlp_ratio": 2.0, "num_heads": 2, "depth": 1,
    "depth_single_blocks": 2, "axes_dim": [8, 8, 8], "theta": 10000, "qkv_bias": True,
    "in_dim": 64, "out_dim": 48, "hidden_dim": 64, "n_layers": 1, "txt_ids_dims": [],
    "vec_in_dim": None,
}  # fmt: skip
LUMINA2 = {
    "image_model": "lumina2", "patch_size": 2, "in_channels": 16, "dim": 48,
    "cap_feat_dim": TEXT, "n_layers": 2, "n_refiner_layers": 1, "qk_norm": True, "n_heads": 2,
    "n_kv_heads": 1, "axes_dims": [8, 8, 8], "axes_lens": [300, 512, 512], "rope_theta": 10000.0,
    "ffn_dim_multiplier": 1.0, "multiple_of": 16,
}  # fmt: skip
Z_IMAGE = {
    **LUMINA2, "dim": 256, "n_heads": 4, "n_kv_heads": 4, "axes_dims": [16, 24, 24],
    "rope_theta": 256.0, "z_image_modulation": True, "time_scale": 1000.0,
    "pad_tokens_multiple": 32,
}  # fmt: skip
QWEN_IMAGE = {
    "image_model": "qwen_image", "patch_size": 2, "in_channels": 64, "out_channels": 16,
    "num_layers": 2, "attention_head_dim": 24, "num_attention_heads": 2,
    "joint_attention_dim": TEXT, "axes_dims_rope": (8, 8, 8),
}  # fmt: skip
COSMOS = {
    "image_model": "cosmos_predict2", "max_img_h": 240, "max_img_w": 240, "max_frames": 128,
    "in_channels": 16, "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1,
    "model_channels": 48, "concat_padding_mask": True, "crossattn_emb_channels": TEXT,
    "pos_emb_cls": "rope3d", "pos_emb_learnable": True, "pos_emb_interpolation": "crop",
    "min_fps": 1, "max_fps": 30, "use_adaln_lora": True, "adaln_lora_dim": 8, "num_blocks": 2,
    "num_heads": 2, "mlp_ratio": 2.0, "extra_per_block_abs_pos_emb": False,
    "rope_h_extrapolation_ratio": 4.0, "rope_w_extrapolation_ratio": 4.0,
    "rope_t_extrapolation_ratio": 1.0, "rope_enable_fps_modulation": False,
}  # fmt: skip
KREA2 = {
    "image_model": "krea2", "features": 64, "tdim": 16, "txtdim": TEXT, "heads": 2, "kvheads": 1,
    "multiplier": 2, "layers": 2, "patch": 2, "channels": 16, "txtlayers": 2, "txtheads": 2,
    "txtkvheads": 2,
}  # fmt: skip
ERNIE = {
    "image_model": "ernie", "hidden_size": 48, "num_attention_heads": 2, "num_layers": 2,
    "ffn_hidden_size": 64, "in_channels": 128, "out_channels": 128, "patch_size": 1,
    "text_in_dim": TEXT, "rope_axes_dim": (8, 8, 8),
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """How a family is built: the host's class names, the network's sizes, the prompt's parts.

    model_type None: what the host's model class takes by itself. prompt: extra tensors by size.
    """

    config: str
    model: str
    unet: Mapping[str, Any]
    model_type: str | None = None
    prompt: Mapping[str, int] = field(default_factory=dict)
    text: tuple[int, ...] = (7, TEXT)
    channels: int = 16
    scheduler: str = "simple"
    edm: bool = False
    zsnr: bool = False


RECIPES = {
    "sd15": Recipe("SD15", "BaseModel", SD15_UNET, "EPS", channels=4, scheduler="karras"),
    "sd2v": Recipe("SD20", "BaseModel", UNET, "V_PREDICTION", channels=4, scheduler="karras"),
    "sd2v_zsnr": Recipe(
        "SD20", "BaseModel", UNET, "V_PREDICTION", channels=4, scheduler="karras", zsnr=True
    ),
    "sdxl": Recipe(
        "SDXL", "SDXL", SDXL_UNET, "EPS", {"pooled_output": 1280}, channels=4, scheduler="karras"
    ),
    "edm": Recipe(
        "SDXL", "SDXL", SDXL_UNET, "EDM", {"pooled_output": 1280}, channels=4, scheduler="karras",
        edm=True,
    ),
    "unet_flow": Recipe("SD15", "BaseModel", SD15_UNET, "FLOW", channels=4),
    "sd3": Recipe("SD3", "SD3", MMDIT, None, {"pooled_output": 12}),
    "flux": Recipe("Flux", "Flux", FLUX, None, {"pooled_output": 12}),
    "flux2": Recipe("Flux2", "Flux2", FLUX2, None, {"pooled_output": 12}, channels=128),
    "chroma": Recipe("Chroma", "Chroma", CHROMA, None, {"pooled_output": 12}),
    "lumina2": Recipe("Lumina2", "Lumina2", LUMINA2),
    "z_image": Recipe("ZImage", "Lumina2", Z_IMAGE),
    "qwen_image": Recipe("QwenImage", "QwenImage", QWEN_IMAGE),
    "cosmos_predict2": Recipe("CosmosT2IPredict2", "CosmosPredict2", COSMOS, scheduler="karras"),
    "krea2": Recipe("Krea2", "Krea2", KREA2, text=(7, 2 * TEXT)),
    "ernie_image": Recipe("ErnieImage", "ErnieImage", ERNIE, channels=128),
}  # fmt: skip
"""Without Toy Faces, which is no random model: `toy_faces` builds it."""

TOY_FACES = "toy_faces"
VP = ("sd15", "sd2v", "sd2v_zsnr", "sdxl", "edm", "cosmos_predict2", TOY_FACES)
SINGLE_FRAME = ("qwen_image", "cosmos_predict2", "krea2")
"""Families whose latent is a video of one frame."""


def available() -> tuple[str, ...]:
    """The families this ComfyUI has."""
    import comfy.model_base
    import comfy.supported_models

    return tuple(
        name
        for name, recipe in RECIPES.items()
        if hasattr(comfy.supported_models, recipe.config)
        and hasattr(comfy.model_base, recipe.model)
    )


NOISIER = "sd3_noise_scale"


def noisier() -> tuple[str, ...]:
    """A flow family with a factor on its noise, on hosts that know one."""
    import comfy.model_sampling

    known = hasattr(comfy.model_sampling.ModelSamplingDiscreteFlow, "set_noise_scale")
    return (NOISIER,) if known else ()


@dataclass
class Family:
    """A MODEL with prompts, and the job of sampling it.

    size: (C, h, w) of its latents.
    """

    name: str
    model: Any
    positive: Any
    negative: Any
    size: tuple[int, int, int]
    cfg: float = 3.0
    scheduler: str = "karras"
    batch: int = 3
    steps: int = 6

    @property
    def is_vp(self) -> bool:
        return self.name in VP

    @property
    def network(self) -> Any:
        return self.model.model.diffusion_model

    def sigmas(self, scheduler: str | None = None) -> torch.Tensor:
        import comfy.samplers

        sampling = self.model.get_model_object("model_sampling")
        return comfy.samplers.calculate_sigmas(sampling, scheduler or self.scheduler, self.steps)

    def noise(self, batch: int | None = None) -> torch.Tensor:
        """[1 + steps, batch, C, h, w]: x_T's first."""
        return draw_noise(self.size, 1 + self.steps, 3, 0, range(batch or self.batch))

    def job(self, sigmas: torch.Tensor | None = None, batch: int | None = None) -> Any:
        from pxpo_core.backends.comfy.session import SamplingJob

        noise = self.noise(batch)
        return SamplingJob(
            model=self.model, positive=self.positive, negative=self.negative, cfg=self.cfg,
            sigmas=self.sigmas() if sigmas is None else sigmas, noise=noise[0],
            latent_image=torch.zeros_like(noise[0]), noise_mask=None, seed=0,
        )  # fmt: skip

    def ours(self, eta: float, sigmas: torch.Tensor | None = None) -> torch.Tensor:
        """LATENT samples of our sampler, without a LoRA."""
        from pxpo_core.backends.comfy.session import sample

        return sample(self.job(sigmas), None, eta, self.noise()[1:])[0]

    def hosts(
        self,
        sampler: str,
        sigmas: torch.Tensor | None = None,
        model: Any = None,
        callback: Any = None,
        **options: Any,
    ) -> torch.Tensor:
        """What the host's own sampler makes of the same x_T and the same noise per step."""
        import comfy.k_diffusion.sampling
        import comfy.sample
        import comfy.samplers

        job, noises = self.job(sigmas), iter(self.noise()[1:])
        start = comfy.sample.fix_empty_latent_channels(self.model, job.latent_image)
        if sampler != "euler":
            options["noise_sampler"] = lambda sigma, sigma_next: next(noises).reshape(start.shape)
        function = getattr(comfy.k_diffusion.sampling, f"sample_{sampler}")
        guider = comfy.samplers.CFGGuider(model or self.model)
        guider.set_conds(self.positive, self.negative)
        guider.set_cfg(self.cfg)
        return guider.sample(
            job.noise.reshape(start.shape), start, comfy.samplers.KSAMPLER(function, options),
            job.sigmas, callback=callback, disable_pbar=True, seed=0,
        )  # fmt: skip


def build(name: str, dtype: torch.dtype = torch.float32) -> Family:
    """A family's small model on the CPU, in `dtype`."""
    if name == TOY_FACES:
        return toy_faces(dtype)
    if name == NOISIER:
        return replace(with_noise_scale(build("sd3", dtype), 4.0), name=name)
    import comfy.model_base
    import comfy.model_patcher
    import comfy.supported_models

    recipe = RECIPES[name]
    base = getattr(comfy.supported_models, recipe.config)
    settings = _known(recipe)
    heads = {"num_heads": 4, "num_head_channels": -1}

    class Config(base):  # type: ignore[misc,valid-type]
        unet_config = settings
        unet_extra_config: dict[str, Any] = heads if "legacy" in settings else {}

    config = Config(settings)
    if recipe.zsnr:
        config.sampling_settings["zsnr"] = True
    if recipe.edm:
        # How the host recognises Playground: its latent scale and its noise range come with it.
        config.model_type({"edm_mean": torch.zeros(1, 4, 1, 1), "edm_std": torch.ones(1, 4, 1, 1)})
    config.set_inference_dtype(dtype, None)
    kind = getattr(comfy.model_base, recipe.model)
    model_type = {} if recipe.model_type is None else {
        "model_type": getattr(comfy.model_base.ModelType, recipe.model_type)
    }  # fmt: skip
    model = kind(config, device="cpu", **model_type)
    randomise(model)
    cpu = torch.device("cpu")
    return Family(
        name=name,
        model=comfy.model_patcher.ModelPatcher(model, cpu, cpu),
        positive=conditioning(1, recipe),
        negative=conditioning(2, recipe),
        size=(recipe.channels, 8, 8),
        scheduler=recipe.scheduler,
    )


def _known(recipe: Recipe) -> dict[str, Any]:
    """The network's settings without those an older host does not know."""
    import comfy.ldm.chroma.model
    import comfy.ldm.flux.model

    parameters = {
        "Flux": comfy.ldm.flux.model.FluxParams,
        "Flux2": comfy.ldm.flux.model.FluxParams,
        "Chroma": comfy.ldm.chroma.model.ChromaParams,
    }.get(recipe.model)
    if parameters is None:
        return dict(recipe.unet)
    known = {item.name for item in fields(parameters)} | {"image_model"}
    return {key: value for key, value in recipe.unet.items() if key in known}


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Every parameter random and of a size that keeps signals alive; also those that start at 0."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim >= 2:
            values *= 1.0 / math.sqrt(math.prod(parameter.shape[1:]))
        elif name.endswith((".weight", ".scale")):
            values = 1.0 + 0.1 * values
        else:
            values *= 0.05
        with torch.no_grad():
            parameter.copy_(values)
    for name, buffer in model.named_buffers():
        if name.endswith("pos_embed"):  # from the checkpoint; uninitialised memory without one
            buffer.copy_(0.3 * torch.randn(buffer.shape, generator=generator))


def conditioning(seed: int, recipe: Recipe) -> Any:
    """One prompt: random text, and what else the family wants to know."""
    generator = torch.Generator().manual_seed(seed)
    values: dict[str, Any] = {
        key: torch.randn(1, size, generator=generator) for key, size in recipe.prompt.items()
    }
    if recipe.config == "SDXL":
        values |= {"width": 768 + 128 * seed, "height": 1024, "crop_w": 8 * seed, "crop_h": 16,
                   "target_width": 1024, "target_height": 896}  # fmt: skip
    if recipe.config == "Flux":
        values["guidance"] = 2.0 + seed
    return [[torch.randn(1, *recipe.text, generator=generator), values]]


def with_noise_scale(family: Family, scale: float) -> Family:
    """The flow family with more noise, as newer hosts' ModelNoiseScale node makes it."""
    import copy

    model = family.model.clone()
    sampling = copy.deepcopy(model.get_model_object("model_sampling"))
    sampling.set_noise_scale(scale)
    model.add_object_patch("model_sampling", sampling)
    return replace(family, model=model)


def toy_faces(dtype: torch.dtype) -> Family:
    """The demo's trained model with its own text encoder and two of its prompts."""
    from demo.toy_faces.loader import load_clip, load_model

    model, clip = load_model(), load_clip()
    network = model.model.diffusion_model.to(dtype)
    network.dtype = dtype
    positive, negative = (
        clip.encode_from_tokens_scheduled(clip.tokenize(text))
        for text in ("portrait, long red hair, dark skin, green background", "")
    )
    return Family(TOY_FACES, model, positive, negative, (4, 32, 32), scheduler="karras")
