"""Portraits of the generator as the judge sees them: what realistic pictures look like."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.toy_faces.generator import draw
from demo.toy_faces.portrait import random_attributes, random_pose
from demo.toy_faces.vae import ToyVAE

from . import measures
from .judge import Judge

FIRST_SEED = 70_000_000
COUNT = 1024
FILE = Path(__file__).parent / "reference.safetensors"


class Reference:
    """features [n, 32] of portraits through the autoencoder; tilts: what tasks reweight them by."""

    def __init__(self, features: Tensor, tilts: dict[str, Tensor]) -> None:
        self._features, self._tilts = features, tilts

    @classmethod
    def load(cls, path: Path = FILE) -> Reference:
        tensors = {name: t.float() for name, t in load_file(path).items()}
        features = tensors.pop("features")
        return cls(features, tensors)

    def distance(self, task: str, features: Tensor, tilt: float | None) -> tuple[float, float]:
        """Frechet distance to portraits reweighted to the mean `tilt`, and how many they are worth.

        A task without a tilt of its own is compared with all portraits alike.
        """
        values = self._tilts.get(task)
        if values is None or tilt is None:
            return measures.frechet_distance(features, self._features), float(len(self._features))
        weights = measures.tilt_weights(values, tilt)
        distance = measures.frechet_distance(features, self._features, weights)
        return distance, measures.effective_count(weights)


def portraits(count: int) -> Iterator[np.ndarray]:
    """Pictures uint8 [256, 256, 3] of seeds that train nothing."""
    for seed in range(FIRST_SEED, FIRST_SEED + count):
        rng = np.random.default_rng(seed)
        attributes, pose = random_attributes(rng), random_pose(rng)
        yield draw(attributes, pose, with_labels=False)[0]


def make_reference(judge: Judge, vae: ToyVAE, count: int = COUNT, path: Path = FILE) -> None:
    """Draw, reconstruct, look, and keep: half precision, written at once."""
    from .judge_training import reconstructed

    features, blue, hair, pending = [], [], [], []
    for i, image in enumerate(portraits(count)):
        pending.append(image)
        if len(pending) < 32 and i + 1 < count:
            continue
        pixels = reconstructed(vae, torch.from_numpy(np.stack(pending)))
        pending = []
        images = (pixels.permute(0, 2, 3, 1) + 1.0) / 2.0
        verdict = judge.look(images)
        features.append(verdict.features)
        blue.append(images[..., 2].mean(dim=(1, 2)))
        hair.append(verdict.area("hair"))
    tensors = {"features": torch.cat(features), "blue": torch.cat(blue), "hair": torch.cat(hair)}
    save_file({name: t.half().contiguous() for name, t in tensors.items()}, path)
