"""Stage 2: the training set as latents, and what the latent format needs to know."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..portrait import Attributes
from ..vae import ToyVAE, to_signed
from .common import StageReport, Stopwatch, log
from .data import make_portraits

BLOCK = 1024

SPREAD = 0.5
"""Standard deviation of the latents the U-Net sees.

SD's schedule ends at sigma 14.6. The flat colours of these portraits would still show through that
much noise at unit spread, and a model would read them there and not in the prompt.
"""


@dataclass(frozen=True)
class LatentSet:
    """Latents [N, 4, 32, 32] as the U-Net sees them and what each portrait shows."""

    latents: Tensor
    attributes: list[Attributes]


@torch.no_grad()
def encode(vae: ToyVAE, images: Tensor, batch: int = 32) -> Tensor:
    """Latents [N, 4, H/8, W/8] of uint8 images [N, H, W, 3]."""
    return torch.cat([vae.encode(to_signed(part)) for part in images.split(batch)])


@torch.no_grad()
def fit_latent_format(vae: ToyVAE, images: Tensor) -> dict[str, object]:
    """Centre the latent (in the VAE's buffers) and fit scale factor and latent-to-RGB map.

    Afterwards every channel has mean 0 and one common standard deviation, which the scale factor
    brings to SPREAD.
    The RGB map (least squares against 8x8 block means, range -1..1) is for latents after scaling.
    """
    raw = encode(vae, images)
    mean, std = raw.mean((0, 2, 3), keepdim=True), raw.std((0, 2, 3), keepdim=True)
    spread = std.square().mean().sqrt()
    log.info("latent channel std %s", [round(s, 3) for s in std.flatten().tolist()])
    vae.shift.copy_(mean)
    vae.gain.copy_(spread / std)
    scaled = (SPREAD * (raw - mean) / std).permute(0, 2, 3, 1).reshape(-1, 4)
    colour = F.avg_pool2d(to_signed(images), 8).permute(0, 2, 3, 1).reshape(-1, 3)
    design = torch.cat([scaled, torch.ones(len(scaled), 1)], dim=1).double()
    solution = torch.linalg.lstsq(design, colour.double()).solution
    factors = [[round(v, 4) for v in row] for row in solution.tolist()]
    return {
        "scale_factor": round(SPREAD / spread.item(), 5),
        "latent_rgb_factors": factors[:4],
        "latent_rgb_factors_bias": factors[4],
    }


def make_latents(
    vae: ToyVAE, scale: float, first_seed: int, count: int
) -> tuple[LatentSet, StageReport]:
    """Draw `count` portraits block by block and keep only their scaled latents."""
    watch = Stopwatch()
    latents = torch.empty(count, 4, 32, 32)
    attributes: list[Attributes] = []
    for start in range(0, count, BLOCK):
        block = make_portraits(first_seed + start, min(BLOCK, count - start))
        latents[start : start + len(block)] = encode(vae, block.images) * scale
        attributes += block.attributes
        log.info("latents %d of %d", start + len(block), count)
    return LatentSet(latents, attributes), watch.report("latents", count, std=latents.std().item())
