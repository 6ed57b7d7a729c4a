"""The 8x autoencoder: 256x256 RGB in -1..1 to and from a 32x32 latent of four channels.

Space is folded into channels (pixel unshuffle), so nearly all convolutions run on the 32x32 grid.
The latent is the block's mean colour plus what a small network adds to it, so it starts out as a
thumbnail. Without normalisation layers, nothing depends on the size or the crop.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LATENT_CHANNELS = 4
DOWNSCALE = 8


class ResBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), shapes [B, C, H, W]; the identity at initialisation."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


class Encoder(nn.Module):
    """RGB [B, 3, 8h, 8w] in -1..1 to latent [B, 4, h, w]."""

    def __init__(self, fine: int = 48, width: int = 96, depth: int = 2) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(3 * 16, fine, 3, padding=1),
            ResBlock(fine),
            nn.PixelUnshuffle(2),
            nn.Conv2d(4 * fine, width, 1),
            *(ResBlock(width) for _ in range(depth)),
            nn.SiLU(),
            nn.Conv2d(width, LATENT_CHANNELS, 3, padding=1),
        )
        last = self.net[-1]
        assert isinstance(last, nn.Conv2d)
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)

    def forward(self, x: Tensor) -> Tensor:
        mean_colour = F.avg_pool2d(x, DOWNSCALE)
        return F.pad(mean_colour, (0, 0, 0, 0, 0, LATENT_CHANNELS - 3)) + self.net(x)


class Decoder(nn.Module):
    """Latent [B, 4, h, w] to RGB [B, 3, 8h, 8w], about -1..1."""

    def __init__(
        self, width: int = 96, depth: int = 4, fine: int = 48, fine_depth: int = 2
    ) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(LATENT_CHANNELS, width, 3, padding=1),
            *(ResBlock(width) for _ in range(depth)),
            nn.Conv2d(width, 4 * fine, 1),
            nn.PixelShuffle(2),
            *(ResBlock(fine) for _ in range(fine_depth)),
            nn.SiLU(),
            nn.Conv2d(fine, 3 * 16, 3, padding=1),
            nn.PixelShuffle(4),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.net(z)


class ToyVAE(nn.Module):
    """Encoder and decoder behind the two methods ComfyUI's VAE wrapper calls.

    `shift` and `gain`, measured after training, centre the latent and give its channels one spread.
    """

    shift: Tensor
    gain: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = Decoder()
        self.register_buffer("shift", torch.zeros(1, LATENT_CHANNELS, 1, 1))
        self.register_buffer("gain", torch.ones(1, LATENT_CHANNELS, 1, 1))

    def encode(self, pixels: Tensor) -> Tensor:
        """RGB [B, 3, H, W] in -1..1 to latent [B, 4, H/8, W/8]; deterministic."""
        return (self.encoder(pixels) - self.shift) * self.gain

    def decode(self, latent: Tensor) -> Tensor:
        """Latent [B, 4, h, w] to RGB [B, 3, 8h, 8w], about -1..1."""
        return self.decoder(latent / self.gain + self.shift)


def to_signed(images: Tensor) -> Tensor:
    """uint8 RGB [B, H, W, 3] to float32 [B, 3, H, W] in -1..1, channels last in memory."""
    return images.permute(0, 3, 1, 2).float() / 127.5 - 1.0
