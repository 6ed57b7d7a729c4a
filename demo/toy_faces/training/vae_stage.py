"""Stage 1: the autoencoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..vae import ToyVAE, to_signed
from .common import StageReport, Stopwatch, apply_step, channels_last, log, warmup_cosine
from .data import PortraitSet, random_crops


@dataclass(frozen=True)
class VAEConfig:
    """Hyperparameters of the autoencoder.

    `noise` is the standard deviation of noise added to the latent, relative to the latent's own: it
    makes the decoder forgive the diffusion model's small errors. `size_weight` keeps latents small.
    """

    steps: int = 3200
    batch: int = 16
    crop: int = 128
    lr: float = 2e-3
    warmup: int = 100
    noise: float = 0.08
    gradient_weight: float = 0.5
    size_weight: float = 1e-4


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:, :] - x[..., :-1, :], x[..., :, 1:] - x[..., :, :-1]


def reconstruction_loss(out: Tensor, target: Tensor, gradient_weight: float) -> Tensor:
    """L1 on pixels, on a 4x smaller copy, and on the first differences (which keep edges sharp)."""
    loss = F.l1_loss(out, target) + 0.5 * F.l1_loss(F.avg_pool2d(out, 4), F.avg_pool2d(target, 4))
    for a, b in zip(_gradients(out), _gradients(target), strict=True):
        loss = loss + gradient_weight * F.l1_loss(a, b)
    return loss


def train_vae(data: PortraitSet, config: VAEConfig, seed: int) -> tuple[ToyVAE, StageReport]:
    """Train the autoencoder on random mirrored crops."""
    watch = Stopwatch()
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    vae = channels_last(ToyVAE()).train()
    parameters = list(vae.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, betas=(0.9, 0.98), weight_decay=1e-4)
    running = 0.0
    for step in range(config.steps):
        target = to_signed(random_crops(data.images, config.batch, config.crop, generator))
        with torch.autocast("cpu", torch.bfloat16):
            latent = vae.encode(target).float()
            noise = torch.randn(latent.shape, generator=generator)
            noisy = latent + config.noise * latent.std().detach() * noise
            out = vae.decode(noisy).float()
        loss = reconstruction_loss(out, target, config.gradient_weight)
        loss = loss + config.size_weight * latent.square().mean()
        lr = config.lr * warmup_cosine(step, config.steps, config.warmup)
        apply_step(optimizer, parameters, loss, lr, clip=1.0)
        running = loss.item() if step == 0 else 0.98 * running + 0.02 * loss.item()
        if step % 50 == 0:
            log.info("vae step %d loss %.4f lr %.1e", step, running, lr)
    return vae.eval(), watch.report("vae", config.steps, loss=running)


@torch.no_grad()
def reconstruct(vae: ToyVAE, images: Tensor, batch: int = 16) -> Tensor:
    """uint8 images [N, H, W, 3] through encoder and decoder, back to uint8."""
    out = [vae.decode(vae.encode(to_signed(part))) for part in images.split(batch)]
    return (
        ((torch.cat(out).clamp(-1, 1) + 1) * 127.5)
        .round()
        .to(torch.uint8)
        .permute(0, 2, 3, 1)
        .contiguous()
    )


@torch.no_grad()
def mean_absolute_error(vae: ToyVAE, images: Tensor, batch: int = 16) -> float:
    """Mean |reconstruction - image| over held-out uint8 images, in the -1..1 range."""
    total = 0.0
    for part in images.split(batch):
        x = to_signed(part)
        total += (vae.decode(vae.encode(x)).clamp(-1, 1) - x).abs().mean().item() * len(part)
    return round(total / len(images), 5)
