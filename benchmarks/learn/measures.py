"""What a set of pictures is like beside the task's score: realism, detail, diversity, locality."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from demo.toy_faces.captions import parse_caption
from pxpo_core.nearby import largest_within

LUMINANCE = (0.2126, 0.7152, 0.0722)


def frechet_distance(a: Tensor, b: Tensor, weights: Tensor | None = None) -> float:
    """Frechet distance of two Gaussians fitted to features [n, d] and [m, d].

    weights: [m] of the rows of b, any positive scale. Biased upwards by about 1/n: compare equal n.
    """
    a, b = a.double(), b.double()
    share = torch.ones(len(b), dtype=torch.float64) if weights is None else weights.double()
    share = share / share.sum()
    mean_a, mean_b = a.mean(dim=0), share @ b
    cov_a = (a - mean_a).T @ (a - mean_a) / len(a)
    cov_b = (b - mean_b).T @ (share[:, None] * (b - mean_b))
    root = _root(cov_a)
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0.0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2.0 * cross
    return float(distance.clamp(min=0.0))


def _root(matrix: Tensor) -> Tensor:
    """Symmetric square root of a positive semidefinite matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0.0).sqrt()) @ vectors.T


def tilt_weights(values: Tensor, target: float) -> Tensor:
    """Weights exp(k v) under which `values` [m] have the mean `target`: [m], summing to 1.

    The least change to a sample that moves its mean there; a target beyond the values' range ends
    at the nearest value.
    """
    v = values.double()
    low, high = float(v.min()), float(v.max())
    if high - low < 1e-12 or target >= high or target <= low:
        goal = v.new_tensor(target).clamp(low, high)
        nearest = (v - goal).abs() == (v - goal).abs().min()
        return (nearest / nearest.sum()).to(values)
    left, right = -1e4 / (high - low), 1e4 / (high - low)
    for _ in range(200):
        k = (left + right) / 2.0
        share = torch.softmax(k * v, dim=0)
        left, right = (k, right) if float(share @ v) < target else (left, k)
    return torch.softmax(v * (left + right) / 2.0, dim=0).to(values)


def effective_count(weights: Tensor) -> float:
    """How many equally weighted samples the weights are worth."""
    share = weights.double() / weights.double().sum()
    return float(1.0 / share.square().sum())


def detail(images: Tensor) -> float:
    """High-frequency energy: RMS difference of neighbours in luminance, [B, H, W, 3] in 0..1."""
    grey = images @ images.new_tensor(LUMINANCE)
    return float(((grey.diff(dim=1) ** 2).mean() + (grey.diff(dim=2) ** 2).mean()).sqrt())


def diversity(features: Tensor) -> float:
    """Mean distance between two pictures' features [n, d]."""
    distances = torch.cdist(features.double(), features.double())
    return float(distances.sum() / (len(features) * (len(features) - 1)))


def saturated(images: Tensor) -> float:
    """Share of colour values at 0 or 1."""
    return float(((images <= 1 / 255) | (images >= 254 / 255)).float().mean())


def locality(before: Tensor, after: Tensor, marked: Tensor, band: int = 16) -> tuple[float, float]:
    """Mean absolute change inside and outside the marked area, same noise, a band left out.

    before, after: [B, H, W, 3]; marked: [B, H, W] bool. NaN for a side without pixels.
    """
    change = (after - before).abs().mean(dim=-1)
    grown = largest_within(marked.float(), band) > 0
    inside, outside = change[marked], change[~grown]
    nan = float("nan")
    return (
        float(inside.mean()) if inside.numel() else nan,
        float(outside.mean()) if outside.numel() else nan,
    )


def prompt_following(
    attributes: dict[str, list[str]], prompts: Sequence[str], fields: Sequence[str]
) -> dict[str, float]:
    """Share of pictures with what their prompt names, per field that any prompt names."""
    asked, right = dict.fromkeys(fields, 0), dict.fromkeys(fields, 0)
    for i, prompt in enumerate(prompts):
        for field, value in parse_caption(prompt).items():
            if field in asked:
                asked[field] += 1
                right[field] += attributes[field][i] == value
    return {field: right[field] / asked[field] for field in fields if asked[field]}
