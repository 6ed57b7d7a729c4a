"""Trains the judge and measures it: `python3 scripts/bench.py learn judge`.

Everything comes from the portrait generator and the demo's autoencoder: half of the pictures have
been through it, because that is what the judge will see.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from demo.toy_faces.generator import FEATURES, draw
from demo.toy_faces.loader import load_vae
from demo.toy_faces.portrait import Attributes, Pose, random_attributes, random_pose
from demo.toy_faces.training.common import apply_step, warmup_cosine
from demo.toy_faces.training.segmenter_stage import augment
from demo.toy_faces.vae import ToyVAE
from demo.toy_faces.weights_io import save_weights

from .judge import ATTRIBUTES, CLASSES, SIDE, WEIGHTS, Judge, JudgeNetwork, shrink
from .validity import valid_faces

FIRST_SEED = 50_000_000
"""Far from the seeds of the demo's own training pictures."""

EYE, MOUTH, SKIN = (CLASSES.index(name) for name in ("eye", "mouth", "skin"))


@dataclass(frozen=True)
class Config:
    portraits: int = 1200
    steps: int = 600
    batch: int = 24
    lr: float = 3e-3
    warmup: int = 40
    seed: int = 7919
    check: int = 256


def labels_of(labels: np.ndarray, pose: Pose) -> np.ndarray:
    """The generator's part labels [256, 256] with features split into eyes, mouth and brows.

    Brows count as skin: whether they show depends on the hair.
    """
    rows, columns = np.mgrid[0:256, 0:256]
    y = (rows + 0.5 - 117 - pose.dy) / pose.scale
    x = (columns + 0.5 - 128 - pose.dx) / (pose.scale * pose.width)
    features = labels == FEATURES
    eyes = (np.abs(np.abs(x) - pose.eye_gap) <= 16) & (y >= -13.5) & (y <= 18)
    result = np.where(features, SKIN, labels)
    result = np.where(features & eyes, EYE, result)
    return np.where(features & (y > 24), MOUTH, result).astype(np.uint8)


def drawn(first_seed: int, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, Attributes]]:
    """Portraits with the judge's labels."""
    for seed in range(first_seed, first_seed + count):
        rng = np.random.default_rng(seed)
        attributes, pose = random_attributes(rng), random_pose(rng)
        image, labels = draw(attributes, pose)
        yield image, labels_of(labels, pose), attributes


def reconstructed(vae: ToyVAE, images: Tensor) -> Tensor:
    """uint8 pictures [B, 256, 256, 3] through the autoencoder, as float [B, 3, 256, 256]."""
    x = images.permute(0, 3, 1, 2).float() / 127.5 - 1.0
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        return vae.decode(vae.encode(x)).clamp(-1.0, 1.0)


@dataclass(frozen=True)
class Portraits:
    """images [N, 3, 128, 128] in -1..1, labels [N, 128, 128], attributes: index per name [N, 7]."""

    images: Tensor
    labels: Tensor
    attributes: Tensor


def make_set(vae: ToyVAE, first_seed: int, count: int, through_vae: float) -> Portraits:
    images, labels, attributes = [], [], []
    whole = round(count * (1.0 - through_vae))
    pending: list[np.ndarray] = []
    for i, (image, label, shown) in enumerate(drawn(first_seed, count)):
        labels.append(torch.from_numpy(label[::2, ::2].copy()))
        attributes.append([v.index(getattr(shown, n)) for n, v in ATTRIBUTES.items()])
        pending.append(image)
        if len(pending) == 16 or i in (whole - 1, count - 1):
            batch = torch.from_numpy(np.stack(pending))
            pending = []
            if i < whole:
                images.append(shrink(batch.permute(0, 3, 1, 2).float() / 127.5 - 1.0))
            else:
                images.append(shrink(reconstructed(vae, batch)))
    return Portraits(torch.cat(images), torch.stack(labels).long(), torch.tensor(attributes))


def train(config: Config) -> dict[str, Any]:
    """Train, save, and measure on portraits of other seeds."""
    begun = time.monotonic()
    torch.manual_seed(config.seed)
    generator = torch.Generator().manual_seed(config.seed)
    vae = load_vae().first_stage_model
    data = make_set(vae, FIRST_SEED, config.portraits, through_vae=0.5)
    print(f"{config.portraits} portraits: {time.monotonic() - begun:.0f} s", flush=True)
    network = JudgeNetwork().to(memory_format=torch.channels_last).train()
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=config.lr, weight_decay=1e-3)
    for step in range(config.steps):
        picks = torch.randint(len(data.images), (config.batch,), generator=generator)
        x, labels, named = data.images[picks], data.labels[picks], data.attributes[picks]
        if torch.rand((), generator=generator) < 0.5:
            x, labels = x.flip(3), labels.flip(2)
        # Colours are part of what the classifier reads: only the second half is distorted.
        half = config.batch // 2
        x = torch.cat([x[:half], augment(x[half:], generator)])
        logits, embedded = network(x.contiguous(memory_format=torch.channels_last))
        loss = F.cross_entropy(logits, labels)
        seen = F.leaky_relu(embedded[:half], 0.1)
        for i, name in enumerate(ATTRIBUTES):
            loss = loss + 0.3 * F.cross_entropy(network.heads[name](seen), named[:half, i])
        lr = config.lr * warmup_cosine(step, config.steps, config.warmup)
        apply_step(optimizer, parameters, loss, lr, clip=1.0)
        if step % 100 == 0:
            print(f"judge step {step} loss {loss.item():.3f}", flush=True)
    figures = measure(Judge(network), vae, config)
    figures["seconds"] = round(time.monotonic() - begun)
    save_weights(WEIGHTS, network, figures)
    return figures


def measure(judge: Judge, vae: ToyVAE, config: Config) -> dict[str, Any]:
    """Accuracy on held-out portraits that went through the autoencoder."""
    data = make_set(vae, FIRST_SEED + 10_000_000, config.check, through_vae=1.0)
    verdict = judge.look((data.images.permute(0, 2, 3, 1) + 1.0) / 2.0)
    guess = verdict.labels.long()
    ious = {}
    for i, name in enumerate(CLASSES):
        a, b = guess == i, data.labels == i
        ious[name] = round(float((a & b).sum() / (a | b).sum()), 4)
    right = {}
    for i, (name, values) in enumerate(ATTRIBUTES.items()):
        hits = [
            values[t] == f
            for t, f in zip(data.attributes[:, i], verdict.attributes[name], strict=True)
        ]
        right[name] = round(sum(hits) / len(hits), 4)
    return {
        "parameters": sum(p.numel() for p in judge.network.parameters()),
        "side": SIDE,
        "iou": ious,
        "attributes_right": right,
        "valid_faces": round(float(valid_faces(verdict.labels).float().mean()), 4),
        "portraits": config.portraits,
        "checked_on": config.check,
    }
