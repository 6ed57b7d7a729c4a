"""The paper's tasks on Toy Faces: what is rewarded, and what counts as gain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from demo.toy_faces.captions import parse_caption
from demo.toy_faces.palette import HAIR_COLOURS
from demo.toy_faces.segmenter import Segmenter, part_mask
from pxpo_core.reward import channel_level, colour_distance, region_weight

from .brush import paint
from .cells import GAINS
from .judge import CLASSES, Judge, Verdict
from .prompts import COLOURED_HELD_OUT, COLOURED_TRAINING, HELD_OUT, TRAINING

LOW_GUIDANCE = 0.5
"""The base model finds the colour in 47 % of pictures at 0.4, 81 % at 0.7 and 91 % at 1."""

Score = Callable[[Tensor, Sequence[str]], Tensor]
Tilt = Callable[[Tensor], Tensor]
Marked = Callable[[Verdict], Tensor]
Reward = Callable[[Tensor, Sequence[str], torch.Generator], Tensor]


@dataclass(frozen=True)
class Task:
    """reward: images [B, H, W, 3] and prompts to maps [B, H, W]; score: to [B], more is better.


    relative: gains are shares of the base model's own (negative) score. tilt: what the reference
    portraits are reweighted by, so that the task itself does not count as damage. marked: the area
    that the task is about, [B, 256, 256] bool, for locality. painted: the maps are a person's
    marks. judged: credit by step needs the reward of predictions, for it cannot be told from a
    latent pixel's surroundings. same_picture: every picture starts from one x_T, with fresh noise
    on the way. cfg: guidance. fields: what prompts name and pictures must keep showing.
    """

    name: str
    says: str
    reward: Reward
    score: Score
    tilt: Tilt | None
    marked: Marked
    relative: bool = False
    painted: bool = False
    judged: bool = False
    same_picture: bool = False
    training: tuple[str, ...] = TRAINING
    held_out: tuple[str, ...] = HELD_OUT
    cfg: float = 3.5
    fields: tuple[str, ...] = ("skin", "mouth")

    @property
    def gains(self) -> tuple[float, ...]:
        return GAINS[self.name]


def blue_level(images: Tensor) -> Tensor:
    return images[..., 2].mean(dim=(1, 2))


def blue() -> Task:
    return Task(
        "blue",
        "less blue everywhere; score: minus the mean blue level",
        reward=lambda images, _, __: channel_level(images, "blue", "less"),
        score=lambda images, _: -blue_level(images),
        tilt=blue_level,
        marked=lambda verdict: torch.ones(len(verdict.labels), 256, 256, dtype=torch.bool),
    )


def hair(segmenter: Segmenter, judge: Judge) -> Task:
    """Rewarded by the demo's segmenter, scored by the judge: another network, seed and size."""
    return Task(
        "hair",
        "less hair; reward from one segmenter, score: minus the hair area by another",
        reward=lambda images, _, __: -part_mask(segmenter, images, "hair"),
        score=lambda images, _: -judge.area(images, "hair"),
        tilt=lambda images: judge.area(images, "hair"),
        marked=lambda verdict: _on_pictures(verdict.labels == CLASSES.index("hair")),
        relative=True,
        judged=True,
    )


def region() -> Task:
    """Less blue, but only where a person has painted: a soft-edged ellipse on the shirt."""
    inside = painted_region()

    def level(images: Tensor) -> Tensor:
        return (images[..., 2] * inside).sum(dim=(1, 2)) / inside.sum()

    return Task(
        "region",
        "less blue inside one painted region; score: minus the mean blue level there",
        reward=lambda images, _, __: channel_level(
            images, "blue", "less", region_weight(images, inside, 1.0, 0.0)
        ),
        score=lambda images, _: -level(images),
        tilt=level,
        marked=lambda verdict: inside.bool().expand(len(verdict.labels), -1, -1),
    )


def single_image(segmenter: Segmenter, judge: Judge, name: str, like: bool = False) -> Task:
    """One picture, its hair marked again and again by a coarse brush."""
    sign = 1.0 if like else -1.0
    return Task(
        name,
        f"one x_T, fresh noise on the way; hair marked {'like' if like else 'dislike'} by a coarse "
        "brush; score: minus the hair area of held-out branches",
        reward=lambda images, _, generator: (
            sign * paint(part_mask(segmenter, images, "hair"), generator)
        ),
        score=lambda images, _: -judge.area(images, "hair"),
        tilt=lambda images: judge.area(images, "hair"),
        marked=lambda verdict: _on_pictures(verdict.labels == CLASSES.index("hair")),
        relative=True,
        painted=True,
        same_picture=True,
        training=("portrait",),
        held_out=("portrait",),
    )


def alignment(segmenter: Segmenter, judge: Judge) -> Task:
    """Hair of the asked colour, with so little guidance that the base model often misses it."""

    names = list(HAIR_COLOURS)

    def reward(images: Tensor, asked: Sequence[str], _: torch.Generator) -> Tensor:
        """How much nearer hair is to the asked colour than to any other: wrong hair is below 0.

        The likeness alone is above 0 for all hair: more of any colour would be the best answer.
        """
        hair = part_mask(segmenter, images, "hair")
        likeness = torch.stack([_likeness(images, HAIR_COLOURS[name], hair) for name in names])
        maps = []
        for i, prompt in enumerate(asked):
            own = names.index(parse_caption(prompt)["hair_colour"])
            others = [place for place in range(len(names)) if place != own]
            maps.append(likeness[own, i] - likeness[others, i].amax(dim=0))
        return torch.stack(maps)

    def score(images: Tensor, asked: Sequence[str]) -> Tensor:
        seen = judge.look(images).attributes["hair_colour"]
        wanted = [parse_caption(prompt)["hair_colour"] for prompt in asked]
        return torch.tensor([float(a == b) for a, b in zip(seen, wanted, strict=True)])

    return Task(
        "alignment",
        f"hair of the asked colour at guidance {LOW_GUIDANCE:g}; score: share that has it",
        reward=reward,
        score=score,
        tilt=None,
        marked=lambda verdict: _on_pictures(verdict.labels == CLASSES.index("hair")),
        training=COLOURED_TRAINING,
        held_out=COLOURED_HELD_OUT,
        cfg=LOW_GUIDANCE,
        judged=True,
        fields=("hair_colour", "skin", "mouth"),
    )


def _likeness(images: Tensor, colour: tuple[int, int, int], weight: Tensor) -> Tensor:
    red, green, blue_ = colour
    return colour_distance(images, (red / 255.0, green / 255.0, blue_ / 255.0), "more", weight)


def all_tasks(segmenter: Segmenter, judge: Judge) -> dict[str, Task]:
    made = (
        blue(),
        hair(segmenter, judge),
        region(),
        alignment(segmenter, judge),
        single_image(segmenter, judge, "single_image"),
        single_image(segmenter, judge, "single_image_one"),
        single_image(segmenter, judge, "single_image_like", like=True),
    )
    return {task.name: task for task in made}


def painted_region(side: int = 256) -> Tensor:
    """The painted ellipse: [1, side, side] float, 1 inside."""
    y = (torch.arange(side) + 0.5)[:, None] / side
    x = (torch.arange(side) + 0.5)[None, :] / side
    return (((y - 0.86) / 0.12) ** 2 + ((x - 0.5) / 0.28) ** 2 <= 1.0).float()[None]


def _on_pictures(mask: Tensor, side: int = 256) -> Tensor:
    """A mask on the judge's grid, on the pictures' [B, side, side]."""
    factor = side // mask.shape[1]
    return mask.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2)
