"""Stage 4: the part segmenter."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..generator import PARTS
from ..segmenter import Segmenter
from ..vae import ToyVAE, to_signed
from .common import StageReport, Stopwatch, apply_step, channels_last, log, warmup_cosine
from .data import PortraitSet
from .vae_stage import reconstruct


@dataclass(frozen=True)
class SegmenterConfig:
    """Hyperparameters of the segmenter. Half of its pictures have been through the autoencoder."""

    steps: int = 300
    batch: int = 12
    lr: float = 2e-3
    warmup: int = 30


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """Random gain, offset, colour mixing, blur and noise per image; x is [B, 3, H, W] in -1..1."""
    b = len(x)
    mix = torch.eye(3) + 0.15 * torch.randn(b, 3, 3, generator=generator)
    odd = torch.rand(b, 1, 1, generator=generator) < 0.3
    permuted = torch.stack([torch.eye(3)[torch.randperm(3, generator=generator)] for _ in range(b)])
    x = torch.einsum("bij,bjhw->bihw", torch.where(odd, permuted, mix), x)
    x = x + 0.15 * torch.randn(b, 3, 1, 1, generator=generator)
    soft = F.avg_pool2d(F.pad(x, (2, 2, 2, 2), mode="replicate"), 5, 1)
    amount = torch.rand(b, 1, 1, 1, generator=generator) * 0.8
    x = x + amount * (soft - x)
    return (x + 0.04 * torch.randn(x.shape, generator=generator)).clamp(-1, 1)


def train_segmenter(
    data: PortraitSet, vae: ToyVAE, config: SegmenterConfig, seed: int
) -> tuple[Segmenter, StageReport]:
    """Train on drawn and on reconstructed pictures of `data`, whole and augmented."""
    watch = Stopwatch()
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    half = len(data) // 2
    images = torch.cat([data.images[:half], reconstruct(vae, data.images[half:])])
    model = channels_last(Segmenter()).train()
    parameters = list(model.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=1e-3)
    running = 0.0
    for step in range(config.steps):
        picks = torch.randint(len(images), (config.batch,), generator=generator)
        x, target = to_signed(images[picks]), data.labels[picks].long()
        if torch.rand((), generator=generator) < 0.5:
            x, target = x.flip(3), target.flip(2)
        loss = F.cross_entropy(model(augment(x, generator)), target)
        lr = config.lr * warmup_cosine(step, config.steps, config.warmup)
        apply_step(optimizer, parameters, loss, lr, clip=1.0)
        running = loss.item() if step == 0 else 0.95 * running + 0.05 * loss.item()
        if step % 50 == 0:
            log.info("segmenter step %d loss %.4f", step, running)
    return model.eval(), watch.report("segmenter", config.steps, loss=running)


@torch.no_grad()
def part_ious(
    model: Segmenter, images: Tensor, labels: Tensor, batch: int = 16
) -> dict[str, float]:
    """Intersection over union of every part over all pixels of uint8 images and labels."""
    overlap, union = torch.zeros(len(PARTS)), torch.zeros(len(PARTS))
    for x, y in zip(images.split(batch), labels.split(batch), strict=True):
        guess = model(to_signed(x)).argmax(1)
        for part in range(len(PARTS)):
            a, b = guess == part, y == part
            overlap[part] += (a & b).sum()
            union[part] += (a | b).sum()
    return {name: round((overlap[i] / union[i]).item(), 4) for i, name in enumerate(PARTS)}
