"""Portraits of the generator as the judge sees them: what realistic pictures look like."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from demo.toy_faces.vae import ToyVAE

from . import measures
from .judge import Judge

FIRST_SEED = 70_000_000
COUNT = 2048
FILE = Path(__file__).parent / "reference.safetensors"


class Reference:
    """features [n, 32] of portraits through the autoencoder, and what tasks resample them by."""

    def __init__(self, features: Tensor, tilts: dict[str, Tensor]) -> None:
        self._features, self._tilts = features, tilts

    @classmethod
    def load(cls, path: Path = FILE) -> Reference:
        tensors = {name: t.float() for name, t in load_file(path).items()}
        features = tensors.pop("features")
        return cls(features, tensors)

    def distance(self, task: str, features: Tensor, tilt: float) -> tuple[float, float]:
        """Frechet distance to portraits reweighted to the mean `tilt`, and how many they are worth.

        A task without a tilt of its own is compared with all portraits alike.
        """
        values = self._tilts.get(task)
        if values is None:
            return measures.frechet_distance(features, self._features), float(len(self._features))
        weights = measures.tilt_weights(values, tilt)
        distance = measures.frechet_distance(features, self._features, weights)
        return distance, measures.effective_count(weights)


def make_reference(judge: Judge, vae: ToyVAE, count: int = COUNT, path: Path = FILE) -> None:
    """Draw, reconstruct, look, and keep: half precision, written at once."""
    from demo.toy_faces.generator import portraits

    from .judge_training import reconstructed

    features, blue, hair, pending = [], [], [], []
    for i, portrait in enumerate(portraits(FIRST_SEED, count)):
        pending.append(portrait.image)
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
