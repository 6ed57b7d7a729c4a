"""Portraits as tensors, drawn by worker processes."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import numpy as np
import torch
from torch import Tensor

from ..generator import SIZE, portrait
from ..portrait import Attributes

CHUNK = 64


@dataclass(frozen=True)
class PortraitSet:
    """Images uint8 [N, 256, 256, 3], labels uint8 [N, 256, 256] and what each shows."""

    images: Tensor
    labels: Tensor
    attributes: list[Attributes]

    def __len__(self) -> int:
        return len(self.images)


def _chunk(span: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, list[Attributes]]:
    drawn = [portrait(seed) for seed in range(*span)]
    images = np.stack([p.image for p in drawn])
    labels = np.stack([p.labels for p in drawn])
    return images, labels, [p.attributes for p in drawn]


def make_portraits(first_seed: int, count: int, workers: int = 2) -> PortraitSet:
    """Portraits of `count` consecutive seeds; the result does not depend on `workers`."""
    end = first_seed + count
    spans = [(s, min(s + CHUNK, end)) for s in range(first_seed, end, CHUNK)]
    images = torch.empty(count, SIZE, SIZE, 3, dtype=torch.uint8)
    labels = torch.empty(count, SIZE, SIZE, dtype=torch.uint8)
    attributes: list[Attributes] = []
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for (start, stop), (pixels, parts, shown) in zip(
            spans, pool.map(_chunk, spans), strict=True
        ):
            images[start - first_seed : stop - first_seed] = torch.from_numpy(pixels)
            labels[start - first_seed : stop - first_seed] = torch.from_numpy(parts)
            attributes += shown
    return PortraitSet(images, labels, attributes)


def random_crops(images: Tensor, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random crops of images [N, H, W, 3], half of them mirrored: [count, size, size, 3]."""
    pick = torch.randint(len(images), (count,), generator=generator)
    limit = images.shape[1] - size
    corner = torch.randint(limit + 1, (count, 2), generator=generator)
    flip = torch.rand(count, generator=generator) < 0.5
    crops = []
    for i, (y, x), mirrored in zip(pick.tolist(), corner.tolist(), flip.tolist(), strict=True):
        crop = images[i, y : y + size, x : x + size]
        crops.append(crop.flip(1) if mirrored else crop)
    return torch.stack(crops)
