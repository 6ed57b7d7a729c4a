"""From marks and masks to the reward of a batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..reward import PixelReward, check_images, check_mask, resize_mask, small_pictures
from .batch import PaintFolder
from .binding import bind, thumbnails
from .marks import Mark, Marks

LABEL = "painted"


@dataclass(frozen=True)
class Feedback:
    """What a person said about a batch.

    marks: for every picture the mark that belongs to it. starts: the mask's map where there is no
    mark, else None. kept: marks of other pictures. missing: marks whose files are not here.
    """

    reward: PixelReward
    thumbs: Tensor
    marks: tuple[Mark | None, ...]
    starts: tuple[Tensor | None, ...]
    kept: int
    missing: int


def painted_feedback(
    images: Tensor,
    marks: Marks,
    folder: PaintFolder,
    mask: Tensor | None,
    mask_sign: float,
    mask_counts: bool = True,
) -> Feedback:
    """The reward for images [B, H, W, 3]; mask [1 or B, h, w] stands in where nothing is painted.

    mask_counts False: there the mask is only shown to start from, and nothing is reviewed.
    Raises MapInvalid when a mark's file is not a map of its picture.
    """
    images = check_images(images)
    batch, height, width = images.shape[:3]
    values = torch.zeros(batch, height, width)
    reviewed = torch.zeros(batch, dtype=torch.bool)
    starts: list[Tensor | None] = [None] * batch
    if mask is not None:
        mask = resize_mask(check_mask(mask, batch), (height, width)).expand(batch, -1, -1).cpu()
    thumbs = thumbnails(images)
    found, missing = _bound_marks(thumbs, marks, folder)
    for i, mark in enumerate(found):
        if mark is not None:
            if mark.map is not None:
                painted = folder.load_map(mark.map, width, height)
                if painted is None:
                    missing += 1
                    found[i] = None
                else:
                    values[i] = painted
            reviewed[i] = found[i] is not None and mark.reviewed
        if found[i] is None and mask is not None:
            starts[i] = start = mask_sign * mask[i]
            if mask_counts:
                values[i], reviewed[i] = start, True
    reward = PixelReward(values, small_pictures(images), LABEL, reviewed, painted=True)
    used = {id(mark) for mark in found if mark is not None}
    kept = sum(mark.map is not None and id(mark) not in used for mark in marks.marks)
    return Feedback(reward, thumbs, tuple(found), tuple(starts), kept - missing, missing)


def were_shown(images: Tensor, node: str, folder: PaintFolder) -> bool:
    """Whether images [B, H, W, 3] are what the node showed last, so that a person has seen them."""
    shown = [folder.load_thumb(name) for name in folder.shown_thumbs(node)]
    return None not in bind(thumbnails(images), shown)


def _bound_marks(
    thumbs: Tensor, marks: Marks, folder: PaintFolder
) -> tuple[list[Mark | None], int]:
    """For every picture its mark, and how many marks have lost the picture they belong to."""
    shown = [None if m.thumb is None else folder.load_thumb(m.thumb) for m in marks.marks]
    found = [None if j is None else marks.marks[j] for j in bind(thumbs, shown)]
    for i, mark in enumerate(marks.marks[: len(found)]):
        # From the API: one mark per picture, in order.
        if mark.thumb is None and found[i] is None:
            found[i] = mark
    lost = sum(
        mark.thumb is not None and mark.map is not None and picture is None
        for mark, picture in zip(marks.marks, shown, strict=True)
    )
    return found, lost
