"""A small network that finds the parts of a portrait, such as its hair. Needs only torch."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .generator import PARTS, SIZE
from .weights_io import SEGMENTER_FILE, WEIGHTS_DIR, load_weights


class _Block(nn.Module):
    """Two 3x3 convolutions with a skip, [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.GroupNorm(8, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(self.norm(x)))))


class Segmenter(nn.Module):
    """RGB [B, 3, H, W] in -1..1, sides divisible by 16, to logits [B, 5, H, W] over PARTS."""

    def __init__(self, fine: int = 32, coarse: int = 48) -> None:
        super().__init__()
        self.fold = nn.Sequential(nn.PixelUnshuffle(4), nn.Conv2d(48, fine, 3, padding=1))
        self.fine_in = _Block(fine)
        self.down1 = nn.Conv2d(fine, coarse, 3, stride=2, padding=1)
        self.middle = _Block(coarse)
        self.down2 = nn.Conv2d(coarse, coarse, 3, stride=2, padding=1)
        self.bottom = nn.Sequential(_Block(coarse), _Block(coarse))
        self.up = nn.Conv2d(coarse, fine, 1)
        self.fine_out = _Block(fine)
        self.head = nn.Sequential(
            nn.SiLU(), nn.Conv2d(fine, len(PARTS) * 16, 3, padding=1), nn.PixelShuffle(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine_in(self.fold(x))
        middle = self.middle(self.down1(fine))
        bottom = self.bottom(self.down2(middle))
        middle = middle + F.interpolate(bottom, scale_factor=2.0)
        fine = fine + F.interpolate(self.up(middle), scale_factor=2.0)
        return self.head(self.fine_out(fine))


def load_segmenter(folder: Path = WEIGHTS_DIR) -> Segmenter:
    """The trained segmenter, in evaluation mode on the CPU."""
    model = Segmenter()
    load_weights(folder / SEGMENTER_FILE, model)
    return model.to(memory_format=torch.channels_last).eval().requires_grad_(False)


@torch.no_grad()
def segment(model: Segmenter, images: Tensor, batch: int = 16) -> Tensor:
    """Index into PARTS of every pixel: float images [B, H, W, 3] in 0..1 to int64 [B, H, W]."""
    out = []
    for part in images.split(batch):
        x = part.permute(0, 3, 1, 2) * 2 - 1
        if x.shape[-2:] != (SIZE, SIZE):
            x = F.interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True)
        logits = model(x)
        if part.shape[1:3] != (SIZE, SIZE):
            logits = F.interpolate(logits, part.shape[1:3], mode="bilinear")
        out.append(logits.argmax(1))
    return torch.cat(out)


def part_mask(model: Segmenter, images: Tensor, part: str = "hair") -> Tensor:
    """Mask of one part: float images [B, H, W, 3] in 0..1 to float32 0 or 1 [B, H, W]."""
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}; choose one of {', '.join(PARTS)}")
    return (segment(model, images) == PARTS.index(part)).float()
