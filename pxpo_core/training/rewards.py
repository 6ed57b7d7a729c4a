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
from .config import ConfigError, RewardConfig

RewardFunction = Callable[[Tensor, Sequence[str]], Tensor]

MASK_FILES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


class Scorer:
    """Scores pictures by the configured rule; each picture on its own, in any order.

    Raises ConfigError when masks or the function are not there.
    """

    def __init__(self, config: RewardConfig, prompts: Sequence[str]) -> None:
        self._config, self._prompts = config, prompts
        self._masks = None if config.masks is None else load_masks(config.masks, len(prompts))
        self._function = load_function(config.function) if config.rule == "function" else None

    @property
    def label(self) -> str:
        """What the run's history calls the reward."""
        config, where = self._config, "" if self._masks is None else " in the mask"
        return {
            "channel level": f"{config.direction} {config.channel}{where}",
            "colour distance": f"{config.direction} like {config.colour}{where}",
            "mask": f"{config.direction} of the mask",
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
        if self._function is None:
            assert weight is not None  # the configuration was checked
            return weight if direction == "more" else -weight
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


def load_masks(path: Path, prompts: int) -> Tensor:
    """Grey levels 0..1 of one picture, or of a folder's pictures by name: [1 or prompts, h, w]."""
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
                level = torch.from_numpy(np.array(picture.convert("L"), dtype=np.float32) / 255.0)
        except (OSError, ValueError) as error:
            raise ConfigError(f"[reward] masks: {file} cannot be read: {error}.") from None
        size = level.shape if not masks else masks[0].shape
        masks.append(rules.resize_mask(level[None], (size[0], size[1]))[0])
    return torch.stack(masks)


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
