"""Which marks belong to which picture: decided by small copies of the pictures.

Not by a digest of the bits: the number of threads alone changes those.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..reward import small_pictures

THUMB_SIZE = 64
TOLERANCE = 2.0
"""Largest mean difference, of 255, between two copies of the same picture."""


def thumbnails(images: Tensor) -> Tensor:
    """[B, h, w, 3] uint8, longest side at most 64."""
    return small_pictures(images, THUMB_SIZE)


def bind(pictures: Tensor, candidates: Sequence[Tensor | None]) -> list[int | None]:
    """For every picture the index of the candidate that shows it, or None.

    pictures: [B, h, w, 3] uint8; candidates: [h, w, 3] uint8 or None. The closest pairs are
    matched first, and of equally close ones those at the same place.
    """
    pairs = []
    for i, picture in enumerate(pictures):
        for j, candidate in enumerate(candidates):
            if candidate is None or candidate.shape != picture.shape:
                continue
            difference = float((picture.to(torch.int16) - candidate).abs().float().mean())
            if difference <= TOLERANCE:
                pairs.append((difference, abs(i - j), i, j))
    found: list[int | None] = [None] * len(pictures)
    taken: set[int] = set()
    for _, _, i, j in sorted(pairs):
        if found[i] is None and j not in taken:
            found[i] = j
            taken.add(j)
    return found
