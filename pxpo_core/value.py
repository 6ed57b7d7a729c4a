"""A quick guess of the reward from a latent: which places of which look are usually liked.

A ridge regression on random features (Rahimi & Recht 2007) of each latent pixel's neighbourhood
and place, in closed form: no training. What it needs of a run's earlier pictures are sums of
fixed size, so a wish becomes clearer with every round, and single wrong marks average out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

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

DAMPING = 1e-6
"""For features that never vary, above the rounding of the sums."""

MOST_PIXELS = 2**16
"""Latent pixels of a round that are looked at, evenly spread, when there are more."""

KEPT = 0.9
"""What an earlier round counts after each later one: wishes change slowly."""

CONTRADICTED = 2.0
"""Squared error, relative to the mean's, from which on a round says the opposite of the guess: a
right guess has 2 where half of the regions are marked with the wrong sign, 4 where all are."""


@dataclass(frozen=True, slots=True)
class ValueSums:
    """What a guess is fitted to: sums over the latent pixels of all pictures so far.

    centre, spread: [C], of the first round's latents. mix: [F', C PATCH^2 + places], shift: [F'],
    the random features. gram: [F, F] and moment: [F]; the last feature is 1. All are float32, as
    files keep them: a run that was read back goes on exactly as one that never stopped.
    """

    centre: Tensor
    spread: Tensor
    mix: Tensor
    shift: Tensor
    gram: Tensor
    moment: Tensor

    @classmethod
    def begin(cls, latents: Tensor) -> "ValueSums":
        """Nothing seen yet; latents [B, C, h, w] of the first round decide how to look."""
        channels = latents.shape[1]
        seen = channels * PATCH**2 + _PLACES
        count = min(RANDOM_FEATURES, latents.numel() // channels // PIXELS_PER_FEATURE)
        generator = torch.Generator().manual_seed(0)
        mix = torch.randn((count, seen), generator=generator) / seen**0.5
        shift = 0.5 * torch.randn(count, generator=generator)
        features = count + channels + _PLACES + 1
        return cls(
            latents.mean(dim=(0, 2, 3)),
            latents.std(dim=(0, 2, 3), correction=0).clamp(min=1e-6),
            mix,
            shift,
            torch.zeros((features, features)),
            torch.zeros(features),
        )

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], prefix: str) -> "ValueSums | None":
        """What `tensors` wrote; None where nothing is."""
        found = {field.name: tensors.get(prefix + field.name) for field in fields(cls)}
        known = {name: tensor for name, tensor in found.items() if tensor is not None}
        return cls(**known) if len(known) == len(found) else None

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        return {prefix + field.name: getattr(self, field.name) for field in fields(self)}

    def features(self, picture: Tensor) -> Tensor:
        """[1, C, h, w] to [h w, F]."""
        seen = (picture - self.centre[:, None, None]) / self.spread[:, None, None]
        around = F.unfold(F.pad(seen, (PATCH // 2,) * 4, mode="replicate"), PATCH)[0].T / PATCH
        place = _places(picture.shape[-2], picture.shape[-1]).to(picture)
        random = F.relu(torch.cat([around, place], dim=1) @ self.mix.T + self.shift)
        itself = seen[0].flatten(1).T
        return torch.cat([random, itself, place, torch.ones_like(place[:, :1])], dim=1)

    def after(self, latents: Tensor, maps: Tensor) -> "ValueSums":
        """The sums once a round's pictures [B, C, h, w] and their maps [B, h, w] are in them.

        Who changed their mind is not held to what they said before: earlier rounds that this one
        contradicts are forgotten.
        """
        kept = 0.0 if self._contradicted(latents, maps) else KEPT
        stride = -(-maps.numel() // MOST_PIXELS)
        rows = [self.features(latents[i : i + 1])[::stride].double() for i in range(len(latents))]
        wanted = [one.flatten()[::stride].double() for one in maps]
        gram = torch.stack([row.T @ row for row in rows]).sum(dim=0)
        moment = torch.stack([row.T @ y for row, y in zip(rows, wanted, strict=True)]).sum(dim=0)
        return replace(
            self,
            gram=(kept * self.gram.double() + gram).float(),
            moment=(kept * self.moment.double() + moment).float(),
        )

    def _contradicted(self, latents: Tensor, maps: Tensor) -> bool:
        """Whether this round says the opposite of the ones before."""
        if not bool(self.gram.any()):
            return False
        error = (maps - self.fitted()(latents)).square().sum()
        return bool(error > CONTRADICTED * (maps - maps.mean()).square().sum())

    def fitted(self) -> Value:
        """The guess that fits the maps best, in the squared error."""
        gram, moment = self.gram.double(), self.moment.double()
        rows_seen = gram[-1, -1]
        variance = gram.diagonal() / rows_seen - (gram[-1] / rows_seen).square()
        damping = torch.diag(RIDGE * variance.clamp(min=0.0) + DAMPING)
        weights = torch.linalg.solve(gram + rows_seen * damping, moment)

        def value(latents: Tensor) -> Tensor:
            size = latents.shape[-2:]
            per_feature = weights.to(latents)
            return torch.stack(
                [
                    (self.features(latents[i : i + 1]) @ per_feature).view(size)
                    for i in range(len(latents))
                ]
            )

        return value


def fit_value(latents: Tensor, maps: Tensor) -> Value:
    """The guess from these pictures [B, C, h, w] and maps [B, h, w] alone."""
    return ValueSums.begin(latents).after(latents, maps).fitted()


_PLACES = 5


def _places(height: int, width: int) -> Tensor:
    """Where each pixel is, [h w, _PLACES]: rows and columns from -1 to 1, and their products."""
    y = torch.linspace(-1.0, 1.0, height)[:, None].expand(height, width)
    x = torch.linspace(-1.0, 1.0, width)[None, :].expand(height, width)
    return torch.stack([y, x, y * y, x * x, y * x], dim=-1).view(-1, _PLACES)
