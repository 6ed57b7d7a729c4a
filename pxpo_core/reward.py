"""Reward maps: what every pixel of a picture is worth, from rules over images and masks.

A reward map is signed float32 [B, H, W] in image space. Rules are pure functions of images
[B, H, W, 3] in 0..1; a rule's direction is "more" (high values are liked) or "less" (disliked).
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Direction = Literal["more", "less"]
Normalise = Literal["none", "batch", "image"]

CHANNELS = ("red", "green", "blue", "luminance")
DIRECTIONS = ("more", "less")
NORMALISE = ("none", "batch", "image")

LUMINANCE = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in the luminance (Rec. 709, on the stored values)."""

PICTURE_SIZE = 128
"""Longest side of the small pictures a reward carries."""

_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})", re.ASCII)
_RANGE_SLACK = 1e-3
_LABEL_LENGTH = 200


@dataclass(frozen=True)
class PixelReward:
    """What one batch of pictures is worth, pixel by pixel.

    map: [B, H, W] float32, signed. pictures: [B, h, w, 3] uint8, small copies.
    reviewed: [B] bool, the images a person looked at (all of them for an automatic rule).
    Raises ValueError when the parts do not belong together or hold NaN.
    """

    map: Tensor
    pictures: Tensor
    label: str
    reviewed: Tensor
    painted: bool = False

    def __post_init__(self) -> None:
        if self.map.ndim != 3 or self.map.dtype != torch.float32 or self.map.numel() == 0:
            raise ValueError(
                "A reward map must be float32 [images, height, width], got "
                f"{self.map.dtype} {list(self.map.shape)}."
            )
        batch = self.map.shape[0]
        small = self.pictures.ndim == 4 and self.pictures.dtype == torch.uint8
        if not small or self.pictures.shape[0] != batch or self.pictures.shape[3] != 3:
            raise ValueError(
                f"A reward for {batch} images needs that many uint8 RGB pictures, got "
                f"{self.pictures.dtype} {list(self.pictures.shape)}."
            )
        if self.reviewed.dtype != torch.bool or tuple(self.reviewed.shape) != (batch,):
            raise ValueError(
                f"A reward for {batch} images needs one reviewed flag per image, got "
                f"{self.reviewed.dtype} {list(self.reviewed.shape)}."
            )
        check_finite(self.map, "reward map")

    @property
    def marked(self) -> bool:
        """Whether any pixel of a reviewed image is worth anything at all."""
        return bool(self.map[self.reviewed].any())

    @property
    def marked_images(self) -> int:
        """Reviewed images with feedback anywhere."""
        return int((self.map.flatten(1).any(dim=1) & self.reviewed).sum())

    @property
    def batch(self) -> int:
        return int(self.map.shape[0])


def automatic_reward(reward_map: Tensor, images: Tensor, label: str) -> PixelReward:
    """The reward an automatic rule gives to `images`: every image counts as reviewed."""
    images = check_images(images)
    reviewed = torch.ones(images.shape[0], dtype=torch.bool)
    return PixelReward(
        reward_map.to("cpu", torch.float32).clone(), small_pictures(images), label, reviewed
    )


def channel_level(
    images: Tensor, channel: str, direction: Direction, weight: Tensor | None = None
) -> Tensor:
    """The level of a channel (or luminance), 0..1, counted for or against: [B, H, W].

    weight: [B, H, W] from `region_weight`, or None for 1 everywhere.
    """
    images = check_images(images)
    if channel not in CHANNELS:
        raise ValueError(f"channel must be one of {', '.join(CHANNELS)}, got {channel!r}.")
    if channel == "luminance":
        level = images @ images.new_tensor(LUMINANCE)
    else:
        level = images[..., CHANNELS.index(channel)]
    return _weighted(_sign(direction) * level, weight)


def colour_distance(
    images: Tensor,
    colour: tuple[float, float, float],
    direction: Direction,
    weight: Tensor | None = None,
) -> Tensor:
    """Likeness to a colour, 1 - distance in RGB over the cube's diagonal: [B, H, W].

    1 = exactly that colour, 0 = the opposite corner. weight: as in `channel_level`.
    """
    images = check_images(images)
    if any(not 0.0 <= part <= 1.0 for part in colour):
        raise ValueError(f"A colour's parts must lie between 0 and 1, got {colour}.")
    distance = torch.linalg.vector_norm(images - images.new_tensor(colour), dim=-1)
    return _weighted(_sign(direction) * (1.0 - distance / math.sqrt(3.0)), weight)


def mask_weight(
    images: Tensor, mask: Tensor, inside: float, outside: float, direction: Direction
) -> Tensor:
    """`inside` where the mask is 1, `outside` where it is 0, counted for or against: [B, H, W]."""
    return _sign(direction) * region_weight(images, mask, inside, outside)


def region_weight(images: Tensor, mask: Tensor, inside: float, outside: float) -> Tensor:
    """inside * m + outside * (1 - m) on the images' grid: [B, H, W].

    mask: [1 or B, h, w] (or [h, w]) in 0..1, resized to the images.
    """
    images = check_images(images)
    for name, value in (("inside", inside), ("outside", outside)):
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, got {value}.")
    mask = check_mask(mask, images.shape[0])
    mask = resize_mask(mask, (images.shape[1], images.shape[2])).expand(images.shape[0], -1, -1)
    return outside + (inside - outside) * mask


def normalise(reward_map: Tensor, how: Normalise) -> Tensor:
    """Divide by the RMS over the batch or over each image; a map of zeros stays zero."""
    if how not in NORMALISE:
        raise ValueError(f"normalise must be one of {', '.join(NORMALISE)}, got {how!r}.")
    if how == "none":
        return reward_map
    dims = (0, 1, 2) if how == "batch" else (1, 2)
    # The peak comes first: squares of tiny or huge values would leave float32.
    peak = reward_map.abs().amax(dim=dims, keepdim=True)
    scaled = reward_map / peak.where(peak > 0.0, torch.ones_like(peak))
    rms = scaled.square().mean(dim=dims, keepdim=True).sqrt()
    return scaled / rms.where(rms > 0.0, torch.ones_like(rms))


def combine(rewards: Sequence[PixelReward], weights: Sequence[float]) -> PixelReward:
    """Weighted sum of rewards for the same pictures.

    Rewards of weight 0 have no say. The sum is painted feedback only if every part is; an image
    is reviewed if any part reviewed it, and a part says nothing about images it did not review.
    """
    if not rewards or len(rewards) != len(weights):
        raise ValueError(f"Need one weight per reward, got {len(rewards)} and {len(weights)}.")
    first = rewards[0]
    for number, (reward, weight) in enumerate(zip(rewards, weights, strict=True), start=1):
        if not math.isfinite(weight):
            raise ValueError(f"Weight {number} must be a finite number, got {weight}.")
        if reward.map.shape != first.map.shape:
            raise ValueError(
                f"Rewards 1 and {number} are not for the same pictures: {_size(first.map)} and "
                f"{_size(reward.map)}. Connect the same images to both."
            )
    used = [(r, float(w)) for r, w in zip(rewards, weights, strict=True) if w != 0.0]
    if not used:
        return replace(first, map=torch.zeros_like(first.map), label="nothing (all weights are 0)")
    total = torch.stack([w * r.map * r.reviewed[:, None, None] for r, w in used]).sum(dim=0)
    return PixelReward(
        map=total,
        pictures=used[0][0].pictures,
        label=" + ".join(_term(r.label, w) for r, w in used)[:_LABEL_LENGTH],
        reviewed=torch.stack([r.reviewed for r, _ in used]).any(dim=0),
        painted=all(r.painted for r, _ in used),
    )


def parse_colour(text: str) -> tuple[float, float, float]:
    """ "#RRGGBB" or "#RGB" as three values in 0..1; anything else raises ValueError."""
    if not isinstance(text, str) or _COLOUR.fullmatch(text) is None:
        raise ValueError(f"A colour is written #RRGGBB or #RGB, such as #3060ff; got {text!r:.60}.")
    digits = text[1:] if len(text) == 7 else "".join(2 * digit for digit in text[1:])
    red, green, blue = (int(digits[i : i + 2], 16) / 255.0 for i in (0, 2, 4))
    return red, green, blue


def small_pictures(images: Tensor, longest: int = PICTURE_SIZE) -> Tensor:
    """Copies no larger than `longest` on either side: [B, h, w, 3] uint8."""
    images = check_images(images)
    height, width = shrunk_size(images.shape[1], images.shape[2], longest)
    if (height, width) != tuple(images.shape[1:3]):
        channels_first = images.permute(0, 3, 1, 2)
        images = F.interpolate(channels_first, (height, width), mode="area").permute(0, 2, 3, 1)
    return (images.clamp(0.0, 1.0) * 255.0).round().to("cpu", torch.uint8).contiguous()


def shrunk_size(height: int, width: int, longest: int) -> tuple[int, int]:
    """(height, width) scaled down, never up, so that neither exceeds `longest`."""
    factor = min(1.0, longest / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """[B, h, w] on another grid: area average when shrinking, bilinear otherwise."""
    if tuple(mask.shape[1:]) == size:
        return mask
    if mask.shape[1] >= size[0] and mask.shape[2] >= size[1]:
        return F.interpolate(mask[:, None], size, mode="area")[:, 0]
    return F.interpolate(mask[:, None], size, mode="bilinear", antialias=True)[:, 0]


def check_images(images: Tensor, name: str = "image") -> Tensor:
    """RGB float32 of [B, H, W, 3 or 4]; raises ValueError for another shape, NaN, or 0..255."""
    if images.ndim != 4 or images.shape[3] not in (3, 4) or images.numel() == 0:
        raise ValueError(
            f"The {name} input must be [images, height, width, 3 colours], got "
            f"{list(images.shape)}."
        )
    if not images.is_floating_point():
        raise ValueError(f"The {name} input must hold floats in 0..1, got {images.dtype}.")
    images = images[..., :3].to(torch.float32)
    check_finite(images, name)
    low, high = float(images.min()), float(images.max())
    if low < -1.0 or high > 2.0:
        raise ValueError(
            f"The {name} input must hold values between 0 and 1, got {low:.4g} to {high:.4g}. "
            "Divide by 255 if these are bytes."
        )
    return images.clamp(0.0, 1.0)


def check_mask(mask: Tensor, batch: int, name: str = "mask") -> Tensor:
    """[1 or B, h, w] float32 in 0..1; raises ValueError for another shape, NaN, or range."""
    if mask.ndim == 2:
        mask = mask[None]
    if mask.ndim == 4 and mask.shape[1] == 1:
        mask = mask[:, 0]
    if mask.ndim != 3 or mask.numel() == 0:
        raise ValueError(
            f"The {name} input must be [masks, height, width], got {list(mask.shape)}."
        )
    if mask.shape[0] not in (1, batch):
        raise ValueError(
            f"The {name} input has {mask.shape[0]} masks for {batch} images. Connect one mask for "
            "all images, or one per image."
        )
    mask = mask.to(torch.float32)
    check_finite(mask, name)
    low, high = float(mask.min()), float(mask.max())
    if low < -_RANGE_SLACK or high > 1.0 + _RANGE_SLACK:
        raise ValueError(
            f"The {name} input must hold values between 0 and 1, got {low:.4g} to {high:.4g}."
        )
    return mask.clamp(0.0, 1.0)


def check_finite(values: Tensor, name: str) -> None:
    """Raise ValueError, saying where and how many, if `values` [B, ...] hold NaN or infinity."""
    bad = ~torch.isfinite(values)
    count = int(bad.sum())
    if count:
        batch = int(values.shape[0])
        first = int(bad.reshape(batch, -1).any(dim=1).nonzero()[0])
        raise ValueError(
            f"The {name} holds {count} bad values (NaN or infinity) out of {values.numel()}, the "
            f"first in image {first + 1} of {batch}. Check the node that makes the {name}; a VAE "
            "or model in half precision is the usual cause."
        )


def _sign(direction: str) -> float:
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be more or less, got {direction!r}.")
    return 1.0 if direction == "more" else -1.0


def _weighted(values: Tensor, weight: Tensor | None) -> Tensor:
    return values if weight is None else values * weight.to(values)


def _term(label: str, weight: float) -> str:
    return label if weight == 1.0 else f"{weight:g} x ({label})"


def _size(reward_map: Tensor) -> str:
    batch, height, width = reward_map.shape
    return f"{batch} images of {width}x{height}"
