"""The held-out judge: a second segmenter and classifier, never used in any reward.

Another seed, size and architecture than the demo's segmenter: a 128x128 encoder-decoder with batch
normalisation, trained on other portraits of the generator. Its labels tell eyes and mouths apart,
which the generator's own do not; its encoder gives the features of the Frechet distance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from demo.toy_faces.palette import (
    BACKGROUND_COLOURS,
    EYE_COLOURS,
    HAIR_COLOURS,
    HAIR_STYLES,
    MOUTHS,
    SHIRT_COLOURS,
    SKIN_TONES,
)
from demo.toy_faces.weights_io import load_weights

CLASSES = ("background", "hair", "skin", "shirt", "eye", "mouth")
ATTRIBUTES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "hair_style": HAIR_STYLES,
        "hair_colour": tuple(HAIR_COLOURS),
        "skin": tuple(SKIN_TONES),
        "eyes": tuple(EYE_COLOURS),
        "mouth": MOUTHS,
        "shirt": tuple(SHIRT_COLOURS),
        "background": tuple(BACKGROUND_COLOURS),
    }
)
FEATURES = 32
SIDE = 128
WEIGHTS = Path(__file__).parent / "judge.safetensors"


def _layer(inside: int, outside: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outside),
        nn.LeakyReLU(0.1),
    )


class JudgeNetwork(nn.Module):
    """RGB [B, 3, 128, 128] in -1..1 to (class logits [B, 6, 128, 128], features [B, 32])."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _layer(3, 12, stride=2)
        self.level1 = _layer(12, 16)
        self.level2 = nn.Sequential(_layer(16, 28, stride=2), _layer(28, 28))
        self.level3 = nn.Sequential(_layer(28, 40, stride=2), _layer(40, 40))
        self.level4 = nn.Sequential(_layer(40, 48, stride=2), _layer(48, 48))
        self.embed = nn.Linear(96, FEATURES)
        self.heads = nn.ModuleDict(
            {name: nn.Linear(FEATURES, len(values)) for name, values in ATTRIBUTES.items()}
        )
        self.up3 = _layer(48 + 40, 32)
        self.up2 = _layer(32 + 28, 24)
        self.up1 = _layer(24 + 16, 16)
        self.out = nn.Conv2d(16, len(CLASSES) * 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        half = self.level1(self.stem(x))
        quarter = self.level2(half)
        eighth = self.level3(quarter)
        bottom = self.level4(eighth)
        pooled = torch.cat([bottom.mean(dim=(2, 3)), bottom.amax(dim=(2, 3))], dim=1)
        up = self.up3(torch.cat([_twice(bottom), eighth], dim=1))
        up = self.up2(torch.cat([_twice(up), quarter], dim=1))
        up = self.up1(torch.cat([_twice(up), half], dim=1))
        return F.pixel_shuffle(self.out(up), 2), self.embed(pooled)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0)


@dataclass(frozen=True)
class Verdict:
    """What the judge sees: labels [B, 128, 128] over CLASSES, features [B, 32], attributes."""

    labels: Tensor
    features: Tensor
    attributes: Mapping[str, list[str]]

    def area(self, part: str) -> Tensor:
        """Share of each picture that is this part: [B]."""
        return (self.labels == CLASSES.index(part)).float().mean(dim=(1, 2))


class Judge:
    """The trained network, on the CPU, in evaluation mode."""

    def __init__(self, network: JudgeNetwork) -> None:
        self.network = network.to(memory_format=torch.channels_last).eval().requires_grad_(False)

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Judge:
        network = JudgeNetwork()
        load_weights(path, network)
        return cls(network)

    @torch.no_grad()
    def look(self, images: Tensor, batch: int = 32) -> Verdict:
        """images: [B, H, W, 3] in 0..1."""
        labels, features = [], []
        names: dict[str, list[str]] = {name: [] for name in ATTRIBUTES}
        for part in images.split(batch):
            logits, embedded = self.network(shrink(part.permute(0, 3, 1, 2) * 2.0 - 1.0))
            labels.append(logits.argmax(dim=1).to(torch.uint8))
            features.append(embedded)
            for name, values in ATTRIBUTES.items():
                found = self.network.heads[name](F.leaky_relu(embedded, 0.1)).argmax(dim=1)
                names[name] += [values[i] for i in found.tolist()]
        return Verdict(torch.cat(labels), torch.cat(features), names)

    def area(self, images: Tensor, part: str) -> Tensor:
        return self.look(images).area(part)


def shrink(x: Tensor) -> Tensor:
    """[B, 3, H, W] at the judge's size."""
    if x.shape[-2:] == (SIDE, SIDE):
        return x
    return F.interpolate(x, (SIDE, SIDE), mode="area")
