"""Pictures of reward maps: blue = liked, orange = disliked, over the dimmed picture."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .reward import LUMINANCE, check_finite, check_images

LIKE = (0.16, 0.47, 1.00)
DISLIKE = (1.00, 0.50, 0.05)
SMALLEST = 256
"""Pictures are enlarged until their longer side has at least this many pixels."""

_STRONGEST = 0.95
_SOFTNESS = 0.9
_BAR_COLOUR = (24, 24, 27)
_TEXT_COLOUR = (235, 235, 235)


def overlay(images: Tensor, reward_map: Tensor, scale: float | None = None) -> Tensor:
    """Heatmaps with a legend below: [B, H', W', 3] in 0..1.

    images: [B, H, W, 3] in 0..1. reward_map: [B, H, W] signed. scale: the value with the strongest
    colour, on both sides of 0; None = the largest size in the batch, so pictures can be compared.
    """
    images = check_images(images).cpu()
    if tuple(reward_map.shape) != tuple(images.shape[:3]):
        raise ValueError(
            f"A reward map of {list(reward_map.shape)} does not fit images of "
            f"{list(images.shape[:3])}."
        )
    check_finite(reward_map, "reward map")
    values = reward_map.to("cpu", torch.float32)
    scale = float(values.abs().max()) if scale is None else scale
    strength = (values / scale).clamp(-1.0, 1.0) if scale > 0.0 else torch.zeros_like(values)
    picture = _enlarge(_tint(images @ images.new_tensor(LUMINANCE), strength))
    legend = _legend(picture.shape[2], scale)
    return torch.cat([picture, legend.expand(picture.shape[0], -1, -1, -1)], dim=1)


def _tint(luminance: Tensor, strength: Tensor) -> Tensor:
    """Colour [B, H, W, 3] for a picture's luminance and a signed strength in [-1, 1]."""
    colour = torch.where(
        strength[..., None] > 0.0, luminance.new_tensor(LIKE), luminance.new_tensor(DISLIKE)
    )
    # The value decides the colour; the picture stays a faint relief, so dark hair is not lost.
    opacity = _STRONGEST * strength.abs()[..., None] ** _SOFTNESS
    grey = 0.12 + 0.45 * luminance[..., None]
    shaded = colour * (0.86 + 0.14 * luminance[..., None])
    return grey * (1.0 - opacity) + shaded * opacity


def _enlarge(picture: Tensor) -> Tensor:
    factor = -(-SMALLEST // max(picture.shape[1:3]))
    if factor == 1:
        return picture
    channels_first = picture.permute(0, 3, 1, 2)
    return F.interpolate(channels_first, scale_factor=factor, mode="nearest").permute(0, 2, 3, 1)


def _legend(width: int, scale: float) -> Tensor:
    """The colour bar with its end values: [h, width, 3]."""
    height = max(20, width // 14)
    font = _font(height * 11 // 20)
    left, right = f"dislike {_number(-scale)}", f"{_number(scale)} like"
    canvas = Image.new("RGB", (width, height), _BAR_COLOUR)
    draw = ImageDraw.Draw(canvas)
    gap = height // 3
    start = gap + int(draw.textlength(left, font)) + gap
    end = width - gap - int(draw.textlength(right, font)) - gap
    if end - start >= 2 * height:
        draw.text((gap, height / 2), left, _TEXT_COLOUR, font, "lm")
        draw.text((width - gap, height / 2), right, _TEXT_COLOUR, font, "rm")
    else:  # too narrow for words
        start, end = gap, width - gap
    if end - start > 2:
        ramp = torch.linspace(-1.0, 1.0, end - start)[None, None]
        colours = _tint(torch.full_like(ramp, 0.7), ramp)[0]
        bar = (colours * 255.0).round().to(torch.uint8).expand(height - 2 * (height // 4), -1, -1)
        canvas.paste(Image.fromarray(bar.contiguous().numpy()), (start, height // 4))
    return torch.from_numpy(np.asarray(canvas, dtype=np.float32) / 255.0)


def _number(value: float) -> str:
    return f"{value:+.2f}" if 0.1 <= abs(value) < 100.0 else f"{value:+.1e}" if value else "0"


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    return ImageFont.load_default(max(size, 9))
