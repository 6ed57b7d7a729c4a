"""A quick guess of the reward from a latent: which places of which look are usually liked.

A ridge regression on random features (Rahimi & Recht 2007) of each latent pixel's neighbourhood
and place, in closed form: no training. What it needs of a run's earlier pictures are sums of
fixed size, so a wish becomes clearer with every round, and single wrong marks average out.
"""

from collections.abc import Callable, Mapping, Sequence
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

OPPOSITE = -0.5
"""Agreement of a round with the ones before, see `ValueSums`, below which it contradicts them."""

FORESEEN = 0.4
"""Share of a round's marks, by size, that earlier rounds have to foresee to be contradicted by it.
Elsewhere it only asks for something else: disliked shirts after liked hair are not its opposite."""

FOLDS = 8
"""Into how many parts a round's pictures are divided at most, to foresee each by the others."""

CHANCE, CLEAR = 0.05, 0.15
"""Agreement that signs set by chance still show, and agreement that leaves no doubt. Where a
quarter of the regions has the wrong sign it is 0.06 to 0.33 (learn_contradiction.json)."""


@dataclass(frozen=True, slots=True)
class RoundSums:
    """One round's part of `ValueSums`, in float64; agreed: with the rounds before it. size: sum of
    its squared map."""

    gram: Tensor
    moments: Tensor
    agreed: Tensor
    borne_out: Tensor
    size: float

    @property
    def contradicts(self) -> bool:
        """Whether the signs are not those that earlier rounds would expect."""
        signed, unsigned = self.agreed.tolist()
        return bool(unsigned > 0.0 and signed < OPPOSITE * unsigned)

    @property
    def opposite(self) -> bool:
        """Whether it contradicts the rounds before it in what these were about."""
        return self.contradicts and float(self.agreed[1]) >= FORESEEN * self.size

    @property
    def kept(self) -> float:
        """What the rounds before it still count."""
        return 0.0 if self.opposite else KEPT


@dataclass(frozen=True, slots=True)
class ValueSums:
    """What a guess is fitted to: sums over the latent pixels of all pictures so far.

    centre, spread: [C], of the first round's latents. mix: [F', C PATCH^2 + places], shift: [F'],
    the random features. gram: [F, F] and moments: [F, 2], of the maps and of their sizes without
    sign; the last feature is 1. agreed: [2], how much the earlier rounds' guesses of maps and of
    sizes found in each new round; their ratio is 1 where all signs were as expected, 0 by chance.
    borne_out: [2], guesses of pictures that were left out, times their maps and times themselves.
    All are float32, as files keep them: a run that was read back goes on exactly as one that never
    stopped.
    """

    centre: Tensor
    spread: Tensor
    mix: Tensor
    shift: Tensor
    gram: Tensor
    moments: Tensor
    agreed: Tensor
    borne_out: Tensor

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
            torch.zeros((features, 2)),
            torch.zeros(2),
            torch.zeros(2),
        )

    @classmethod
    def load(cls, tensors: Mapping[str, Tensor], prefix: str) -> "ValueSums | None":
        """What `tensors` wrote; None where nothing is. Older runs do not know `borne_out`."""
        tensors = {prefix + "borne_out": torch.zeros(2), **tensors}
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

    def of_round(self, latents: Tensor, maps: Tensor, where: Tensor | None = None) -> RoundSums:
        """A new round's pictures [B, C, h, w] and maps [B, h, w], compared with earlier rounds.

        where: [h, w] bool, the places to learn from; None: all of them.
        """
        chosen = torch.ones_like(maps[0], dtype=torch.bool) if where is None else where
        places = chosen.flatten().nonzero()[:, 0]
        places = places[:: max(1, -(-len(maps) * len(places) // MOST_PIXELS))]
        rows = [self.features(latents[i : i + 1])[places].double() for i in range(len(latents))]
        wanted = [_with_sizes(one.flatten()[places].double()) for one in maps]
        grams = torch.stack([row.T @ row for row in rows])
        moments = torch.stack([row.T @ y for row, y in zip(rows, wanted, strict=True)])
        new = RoundSums(
            grams.sum(dim=0),
            moments.sum(dim=0),
            self._foreseen(rows, wanted),
            torch.zeros(2),
            sum(float(y[:, 0].square().sum()) for y in wanted),
        )
        return replace(new, borne_out=self._borne_out(new, rows, wanted, grams, moments))

    def with_round(self, new: RoundSums) -> "ValueSums":
        """The sums once a round is in them.

        Who changed their mind is not held to what they said before: earlier rounds that this one
        contradicts are forgotten. Who asks for something else does not disagree either.
        """
        kept = new.kept
        agreed = torch.zeros_like(new.agreed) if new.contradicts else new.agreed
        return replace(
            self,
            gram=(kept * self.gram.double() + new.gram).float(),
            moments=(kept * self.moments.double() + new.moments).float(),
            agreed=(kept * self.agreed.double() + agreed).float(),
            borne_out=(kept * self.borne_out.double() + new.borne_out).float(),
        )

    def after(self, latents: Tensor, maps: Tensor, where: Tensor | None = None) -> "ValueSums":
        """The sums once these pictures and their maps are in them."""
        return self.with_round(self.of_round(latents, maps, where))

    def _foreseen(self, rows: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
        """What earlier rounds say of a new one's maps and sizes [n, 2], times these: [2]."""
        found = torch.zeros(2, dtype=torch.float64)
        if not bool(self.gram.any()):
            return found
        weights = _fit(self.gram.double(), self.moments.double())
        for row, y in zip(rows, wanted, strict=True):
            found += (row @ weights * y).sum(dim=0)
        return found

    def _borne_out(
        self,
        new: RoundSums,
        rows: Sequence[Tensor],
        wanted: Sequence[Tensor],
        grams: Tensor,
        moments: Tensor,
    ) -> Tensor:
        """Each part of a round foreseen by earlier rounds and its other parts: [2], `borne_out`."""
        found = torch.zeros(2, dtype=torch.float64)
        all_gram = new.kept * self.gram.double() + new.gram
        all_moments = new.kept * self.moments.double() + new.moments
        for part in torch.arange(len(rows)).tensor_split(min(FOLDS, len(rows))):
            gram = all_gram - grams[part].sum(dim=0)
            if not bool(gram[-1, -1] > 0.0):
                continue  # one picture, and no earlier round to guess it from
            weights = _fit(gram, all_moments - moments[part].sum(dim=0))[:, 0]
            for i in part.tolist():
                guess = rows[i] @ weights
                found += torch.stack([guess @ wanted[i][:, 0], guess @ guess])
        return found

    @property
    def reliability(self) -> float:
        """How much of the guess to believe, 0..1: what predicts left-out pictures best.

        1 too while no picture could be foreseen by others.
        """
        truly, guessed = (float(found) for found in self.borne_out)
        return 1.0 if guessed <= 0.0 else min(1.0, max(0.0, truly / guessed))

    @property
    def agreement(self) -> float:
        """How far rounds agree on what is liked, from 0, signs by chance, to 1, beyond doubt.

        1 too while nothing can be compared: in the first round, or where nobody foresees marks.
        """
        signed, unsigned = (float(found) for found in self.agreed)
        if unsigned <= 0.0:
            return 1.0
        return min(1.0, max(0.0, (signed / unsigned - CHANCE) / (CLEAR - CHANCE)))

    def fitted(self, share: float = 1.0) -> Value:
        """A share of the guess that fits the maps best, in the squared error."""
        weights = share * _fit(self.gram.double(), self.moments.double())[:, 0]

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


def _fit(gram: Tensor, moments: Tensor) -> Tensor:
    """What each feature adds to the guess of a map and of its size: [F, 2] float64."""
    rows_seen = gram[-1, -1]
    variance = gram.diagonal() / rows_seen - (gram[-1] / rows_seen).square()
    damping = torch.diag(RIDGE * variance.clamp(min=0.0) + DAMPING)
    weights: Tensor = torch.linalg.solve(gram + rows_seen * damping, moments)
    return weights


def _with_sizes(values: Tensor) -> Tensor:
    """[n] to [n, 2]: the values, and their sizes without sign."""
    return torch.stack([values, values.abs()], dim=1)


_PLACES = 5


def _places(height: int, width: int) -> Tensor:
    """Where each pixel is, [h w, _PLACES]: rows and columns from -1 to 1, and their products."""
    y = torch.linspace(-1.0, 1.0, height)[:, None].expand(height, width)
    x = torch.linspace(-1.0, 1.0, width)[None, :].expand(height, width)
    return torch.stack([y, x, y * y, x * x, y * x], dim=-1).view(-1, _PLACES)
