"""The rewards a configuration can name: colour, mask files, or a Python function.

Functions are for this library only: no widget or workflow of ComfyUI can name one.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .. import reward as rules
from .config import ConfigError, RewardConfig, SamplingConfig

RewardFunction = Callable[[Tensor, Sequence[str]], Tensor]

MASK_FILES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Scorer:
    """Scores pictures by the configured rule; each picture on its own, in any order.

    Raises ConfigError when masks or the function are not there.
    """

    def __init__(self, config: RewardConfig, sampling: SamplingConfig) -> None:
        self._config, self._prompts = config, sampling.prompts
        size = (sampling.height, sampling.width)
        self._masks = None
        if config.masks is not None:
            self._masks = load_masks(config.masks, len(self._prompts), size)
        self._function = load_function(config.function) if config.rule == "function" else None

    @property
    def label(self) -> str:
        """What the run's history calls the reward."""
        config, where = self._config, "" if self._masks is None else " in the mask"
        return {
            "channel level": f"{config.direction} {config.channel}{where}",
            "colour distance": f"{config.direction} like {config.colour}{where}",
            "function": f"{config.function}{where}",
        }[config.rule]

    def __call__(self, images: Tensor, prompts: Sequence[int]) -> Tensor:
        """Reward maps [B, H, W] of images [B, H, W, 3] in 0..1. prompts: B places in the list."""
        config, direction = self._config, self._config.direction
        weight = None
        if self._masks is not None:
            mask = self._masks if len(self._masks) == 1 else self._masks[list(prompts)]
            weight = rules.region_weight(images, mask, config.inside, config.outside)
        if config.rule == "channel level":
            return rules.channel_level(images, config.channel, direction, weight)
        if config.rule == "colour distance":
            return rules.colour_distance(
                images, rules.parse_colour(config.colour), direction, weight
            )
        scores = self._scored(images, [self._prompts[i] for i in prompts])
        return scores if weight is None else scores * weight

    def finish(self, maps: Tensor) -> Tensor:
        """The whole round's maps, normalised as configured."""
        return rules.normalise(maps, self._config.normalise)

    def _scored(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        assert self._function is not None
        scores = self._function(images.clone(), list(prompts))
        if not isinstance(scores, Tensor) or scores.shape != images.shape[:3]:
            shape = list(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise ValueError(
                f"The reward function {self._config.function} must return a tensor of "
                f"{list(images.shape[:3])}, got {shape}."
            )
        scores = scores.detach().to("cpu", torch.float32)
        rules.check_finite(scores, f"reward map of {self._config.function}")
        return scores


def load_masks(path: Path, prompts: int, size: tuple[int, int]) -> Tensor:
    """Levels 0..1 of one picture, or of a folder's pictures by name: [1 or prompts, *size].

    What is transparent is black.
    """
    paths = [path]
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.suffix.lower() in MASK_FILES)
    if len(paths) not in (1, prompts):
        raise ConfigError(
            f"[reward] masks: {path} holds {len(paths)} pictures for {prompts} prompts. Put one "
            "there for all prompts, or one for each."
        )
    masks: list[Tensor] = []
    for file in paths:
        try:
            with Image.open(file) as picture:
                level = _level(picture)
        except (OSError, ValueError) as error:
            raise ConfigError(f"[reward] masks: {file} cannot be read: {error}.") from None
        masks.append(rules.resize_mask(level[None], size)[0])
    return torch.stack(masks)


def _level(picture: Image.Image) -> Tensor:
    """[h, w]; Pillow clips 16 bits to 8 where it converts them itself."""
    if picture.mode.startswith("I"):
        return torch.from_numpy(np.array(picture, dtype=np.float32) / 65535.0)
    grey, alpha = picture.convert("LA").split()
    levels = np.array(grey, dtype=np.float32) * np.array(alpha, dtype=np.float32)
    return torch.from_numpy(levels / 255.0**2)


def load_function(name: str) -> RewardFunction:
    """The function "module:function" names; importing the module runs its code."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"[reward] function: {name} cannot be imported: {error}.") from None
    if not callable(found):
        raise ConfigError(f"[reward] function: {name} is not a function.")
    checked: RewardFunction = found
    return checked
