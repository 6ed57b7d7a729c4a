"""The paper's tasks on Toy Faces: what is rewarded, and what counts as gain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.toy_faces.segmenter import Segmenter, part_mask
from pxpo_core.reward import channel_level

from .judge import CLASSES, Judge, Verdict

Reward = Callable[[Tensor], Tensor]
Score = Callable[[Tensor], Tensor]
Marked = Callable[[Verdict], Tensor]


@dataclass(frozen=True)
class Task:
    """reward: images [B, H, W, 3] to maps [B, H, W]; score: images to [B], more is better.

    gains: improvements of the mean score over the base model's that are raced to. relative: the
    gains are shares of the base model's own (negative) score. tilt: what the reference portraits
    are resampled by, so that the task itself does not count as damage. marked: the area of the
    pictures that the task is about, [B, 256, 256] bool, for locality.
    """

    name: str
    says: str
    gains: tuple[float, ...]
    reward: Reward
    score: Score
    tilt: Score
    marked: Marked
    relative: bool = False


def blue_level(images: Tensor) -> Tensor:
    return images[..., 2].mean(dim=(1, 2))


def blue() -> Task:
    return Task(
        "blue",
        "less blue everywhere; score: minus the mean blue level",
        gains=(0.04, 0.10),
        reward=lambda images: channel_level(images, "blue", "less"),
        score=lambda images: -blue_level(images),
        tilt=blue_level,
        marked=lambda verdict: torch.ones(len(verdict.labels), 256, 256, dtype=torch.bool),
    )


def hair(segmenter: Segmenter, judge: Judge) -> Task:
    """Rewarded by the demo's segmenter, scored by the judge: another network, seed and size."""
    return Task(
        "hair",
        "less hair; reward from one segmenter, score: minus the hair area by another",
        gains=(1 / 3, 2 / 3),
        reward=lambda images: -part_mask(segmenter, images, "hair"),
        score=lambda images: -judge.area(images, "hair"),
        tilt=lambda images: judge.area(images, "hair"),
        marked=lambda verdict: _on_pictures(verdict.labels == CLASSES.index("hair")),
        relative=True,
    )


def _on_pictures(mask: Tensor, side: int = 256) -> Tensor:
    """A mask on the judge's grid, on the pictures' [B, side, side]."""
    factor = side // mask.shape[1]
    return mask.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
