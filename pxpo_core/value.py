"""A quick guess of the reward from a latent: which places of which look are usually liked.

A ridge regression on random features (Rahimi & Recht 2007) of each latent pixel's neighbourhood
and place, fitted anew from a round's own pictures: no training, no state, closed form.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

Value = Callable[[Tensor], Tensor]
"""Latents [B, C, h, w] to guessed maps [B, h, w], in the units of what was fitted."""

PATCH = 3
RANDOM_FEATURES = 256
PIXELS_PER_FEATURE = 8
"""Fewer random features where there are few latent pixels, or they would fit anything."""

RIDGE = 1e-2
"""Relative to each feature's variance."""

MOST_PIXELS = 2**16
"""Latent pixels that are looked at, evenly spread, when there are more."""


def fit_value(latents: Tensor, maps: Tensor) -> Value:
    """The guess that fits `maps` [B, h, w] best on `latents` [B, C, h, w], in the squared error."""
    spread = latents.std(dim=(0, 2, 3), keepdim=True).clamp(min=1e-6)
    centre = latents.mean(dim=(0, 2, 3), keepdim=True)
    patch = latents.shape[1] * PATCH**2
    generator = torch.Generator().manual_seed(0)
    count = min(RANDOM_FEATURES, maps.numel() // PIXELS_PER_FEATURE)
    mix = torch.randn((count, patch + _PLACES), generator=generator) / (patch + _PLACES) ** 0.5
    shift = 0.5 * torch.randn(count, generator=generator)

    def features(picture: Tensor) -> Tensor:
        """[1, C, h, w] to [h w, features]."""
        seen = (picture - centre) / spread
        around = F.unfold(F.pad(seen, (PATCH // 2,) * 4, mode="replicate"), PATCH)[0].T / PATCH
        place = _places(picture.shape[-2], picture.shape[-1]).to(picture)
        random = F.relu(torch.cat([around, place], dim=1) @ mix.T + shift)
        itself = seen[0].flatten(1).T
        return torch.cat([random, itself, place, torch.ones_like(place[:, :1])], dim=1)

    stride = -(-maps.numel() // MOST_PIXELS)
    rows = [features(latents[i : i + 1])[::stride].double() for i in range(len(latents))]
    wanted = [one.flatten()[::stride].double() for one in maps]
    gram = torch.stack([row.T @ row for row in rows]).sum(dim=0)
    moment = torch.stack([row.T @ y for row, y in zip(rows, wanted, strict=True)]).sum(dim=0)
    rows_seen = gram[-1, -1]  # the last feature is 1
    variance = gram.diagonal() / rows_seen - (gram[-1] / rows_seen).square()
    damping = torch.diag(RIDGE * variance.clamp(min=0.0) + 1e-9)
    weights = torch.linalg.solve(gram + rows_seen * damping, moment).to(latents)

    def value(others: Tensor) -> Tensor:
        size = others.shape[-2:]
        return torch.stack(
            [(features(others[i : i + 1]) @ weights).view(size) for i in range(len(others))]
        )

    return value


_PLACES = 5


def _places(height: int, width: int) -> Tensor:
    """Where each pixel is, [h w, _PLACES]: rows and columns from -1 to 1, and their products."""
    y = torch.linspace(-1.0, 1.0, height)[:, None].expand(height, width)
    x = torch.linspace(-1.0, 1.0, width)[None, :].expand(height, width)
    return torch.stack([y, x, y * y, x * x, y * x], dim=-1).view(-1, _PLACES)
