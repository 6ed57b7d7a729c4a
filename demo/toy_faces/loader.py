"""Builds ComfyUI's MODEL, CLIP and VAE from the committed weights; downloads nothing."""

from __future__ import annotations

from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch

from .host_model import CLIP_NAME, ToyModelConfig, clip_target
from .vae import DOWNSCALE, LATENT_CHANNELS, ToyVAE
from .weights_io import (
    TEXT_ENCODER_FILE,
    UNET_FILE,
    VAE_FILE,
    WEIGHTS_DIR,
    load_weights,
    read_facts,
)


def load_toy_faces(
    folder: Path = WEIGHTS_DIR,
) -> tuple[comfy.model_patcher.ModelPatcher, comfy.sd.CLIP, comfy.sd.VAE]:
    """Fresh (MODEL, CLIP, VAE) for stock nodes: 256x256 pictures, 32x32x4 latents, EPS prediction.

    Raises DamagedWeightsError when a weight file is missing or does not fit.
    """
    return load_model(folder), load_clip(folder), load_vae(folder)


def load_model(folder: Path = WEIGHTS_DIR) -> comfy.model_patcher.ModelPatcher:
    """The U-Net as a MODEL, float32; channels last on the CPU, where that is faster."""
    path = folder / UNET_FILE
    config = ToyModelConfig(read_facts(path).get("latent_format"))
    load_device = comfy.model_management.get_torch_device()
    offload_device = comfy.model_management.unet_offload_device()
    model = config.get_model({}).to(offload_device)
    load_weights(path, model.diffusion_model)
    model.diffusion_model.eval().requires_grad_(False)
    if load_device.type == "cpu":
        model.diffusion_model.to(memory_format=torch.channels_last)
    return comfy.model_patcher.ModelPatcher(
        model, load_device=load_device, offload_device=offload_device
    )


def load_clip(folder: Path = WEIGHTS_DIR) -> comfy.sd.CLIP:
    """The text encoder as a CLIP, float32."""
    clip = comfy.sd.CLIP(clip_target(), model_options={"dtype": torch.float32})
    load_weights(
        folder / TEXT_ENCODER_FILE, getattr(clip.cond_stage_model, f"clip_{CLIP_NAME}").transformer
    )
    return clip


def load_vae(folder: Path = WEIGHTS_DIR) -> comfy.sd.VAE:
    """The autoencoder as a VAE, float32.

    ComfyUI's VAE class picks its network by the keys of a state dict and has no hook for a foreign
    one, so we start from its smallest member (the pixel-space VAE) and put ours in its place.
    """
    model = ToyVAE().eval().requires_grad_(False)
    load_weights(folder / VAE_FILE, model)
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.tensor(1.0)}, dtype=torch.float32)
    if vae.device.type == "cpu":
        model.to(memory_format=torch.channels_last)
    vae.first_stage_model = model
    vae.patcher = comfy.model_patcher.ModelPatcher(
        model, load_device=vae.device, offload_device=comfy.model_management.vae_offload_device()
    )
    vae.latent_channels = LATENT_CHANNELS
    vae.downscale_ratio = vae.upscale_ratio = DOWNSCALE
    # The largest activations hold 3 numbers per image pixel; about ten of them are alive at once.
    vae.memory_used_encode = lambda shape, dtype: (
        32 * shape[2] * shape[3] * comfy.model_management.dtype_size(dtype)
    )
    vae.memory_used_decode = lambda shape, dtype: (
        32 * DOWNSCALE**2 * shape[2] * shape[3] * comfy.model_management.dtype_size(dtype)
    )
    vae.size = None
    return vae
