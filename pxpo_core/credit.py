"""From what a person said about pixels to what a latent pixel is worth: the advantage map.

Order: area average -> baseline -> credit blur -> scale -> clip.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .nearby import largest_within
from .value import Value

CLIP = 5.0
"""Advantages beyond this many scales are clipped, as in DDPO."""

ROUNDING = 1e-5
"""Differences this small, relative to the largest reward, are those of float32 means."""

MARGIN = 2
"""Latent pixels around a mark that still belong to it: the model blurs its edge that far."""

PAINTED_HOLD = 0.1
"""How hard what painted feedback changes is held back, see `Advantage.hold`; 1 for rules. Most of
it is foreseen, so its credit is weak: an anchor ten times as strong left half of the hair that a
person disliked (learn.json: single_image, anchor_unmarked_10), and a second optimizer step undid
half of the first."""

MINIMUM_GROUP = 4
"""Smallest prompt group that carries its own leave-one-out baseline."""


Baseline = Callable[[Tensor], Tensor]
"""Maps [B, h, w] without what such pictures are usually worth."""


@dataclass(frozen=True, slots=True)
class Foresight:
    """What finished pictures are worth beyond what could be foreseen once noise was added to them.

    value: guesses what predictions [b, C, h, w] are worth, [b, h, w]. earned: [B, h, w], what the
    finished pictures are worth by the same guess, and what it leaves over. reviewed: [B] bool, the
    others are worth nothing. scale, radius: of the advantages and of the credit blur.
    """

    value: Value
    earned: Tensor
    reviewed: Tensor
    scale: float = 1.0
    radius: float = 0.0

    def at(self, denoised: Tensor, chosen: slice | list[int]) -> Tensor:
        """Advantages [b, h, w] of some pictures, given the predictions [b, C, h, w] for them."""
        unforeseen = self.earned[chosen] - self.value(denoised)
        unforeseen = unforeseen * self.reviewed[chosen][:, None, None]
        return (blur(unforeseen, self.radius) / self.scale).clamp(-CLIP, CLIP)

    def rows(self, chosen: slice) -> "Foresight":
        return replace(self, earned=self.earned[chosen], reviewed=self.reviewed[chosen])


StepSplit = Callable[[Tensor, Baseline], tuple[Tensor, Foresight | None]]
"""What each sampling step earned, [T - 1, B, h, w], of the round's rewards [B, h, w]; and what
finished pictures earn at any noise, where a value says so."""


@dataclass(frozen=True, slots=True)
class Advantage:
    """values: [B, h, w] float32, in units of `scale`. rms: before scaling, in reward units.

    run_scale: the rms of the run's first non-zero round. agreement: 0..1, how far a person's rounds
    agree, see `ValueSums`; opposite: they say the opposite of all before, which are forgotten.
    reliability: 0..1, the share of the guess of a rule's rewards that is believed.
    strength = min(1, rms / run_scale) agreement scales the optimizer step, because Adam forgets
    how large a gradient was, and takes full steps of marks set by chance.
    hold: how hard what was predicted before is held to: by the base model where nothing is asked,
    and by the model before the round everywhere, in units of the credit.
    unmarked: [B, h, w] 0..1, where an anchor may hold the pixels; None: not known, all of them.
    by_step: [T - 1, B, h, w], what each sampling step earned of it, in the same units; None: every
    step is credited with all of it. foresight: the same for pictures that noise is added to.
    """

    values: Tensor
    rms: float
    run_scale: float
    hold: float = 1.0
    unmarked: Tensor | None = None
    by_step: Tensor | None = None
    foresight: Foresight | None = None
    agreement: float = 1.0
    opposite: bool = False
    reliability: float = 1.0

    @property
    def is_zero(self) -> bool:
        return not bool(self.values.any())

    def at(self, step: int) -> Tensor:
        """What the pixels are worth at a sampling step: [B, h, w]."""
        return self.values if self.by_step is None else self.by_step[step]

    def rows(self, chosen: slice) -> "Advantage":
        """Some of the pictures, at the whole batch's scale."""
        return replace(
            self,
            values=self.values[chosen],
            unmarked=None if self.unmarked is None else self.unmarked[chosen],
            by_step=None if self.by_step is None else self.by_step[:, chosen],
            foresight=None if self.foresight is None else self.foresight.rows(chosen),
        )

    @property
    def strength(self) -> float:
        return self.relative * self.agreement

    @property
    def relative(self) -> float:
        """How strong the round's signal is, 0..1, 1 being that of the run's first one."""
        return min(1.0, self.rms / self.run_scale) if self.run_scale > 0.0 else 0.0


def joined(parts: Sequence[Advantage]) -> Advantage:
    """The advantages of one round's batches as one, at their common scale."""
    unmarked = [part.unmarked for part in parts if part.unmarked is not None]
    by_step = [part.by_step for part in parts if part.by_step is not None]
    ahead = [part.foresight for part in parts if part.foresight is not None]
    return replace(
        parts[0],
        values=torch.cat([part.values for part in parts]),
        unmarked=torch.cat(unmarked) if unmarked else None,
        by_step=torch.cat(by_step, dim=1) if by_step else None,
        foresight=replace(
            ahead[0],
            earned=torch.cat([part.earned for part in ahead]),
            reviewed=torch.cat([part.reviewed for part in ahead]),
        )
        if ahead
        else None,
    )


def area_average(reward: Tensor, size: tuple[int, int]) -> Tensor:
    """Reward map [B, H, W] on the latent grid [B, h, w]; the mean reward is kept.

    A picture that is not a multiple of the latent's factor is cropped centrally first, as the
    VAE crops it; pixels that straddle two latent pixels are shared between them by area.
    """
    height, width = size
    for dim, n in ((1, height), (2, width)):
        factor = reward.shape[dim] // n
        if factor >= 1 and reward.shape[dim] - n * factor < factor:
            offset = (reward.shape[dim] - n * factor) // 2
            reward = reward.narrow(dim, offset, n * factor)
    reward = reward.to(torch.float32)
    rows, columns = (
        _overlap(n, reward.shape[dim]).to(reward) for dim, n in ((1, height), (2, width))
    )
    return rows @ reward @ columns.T


def _overlap(cells: int, pixels: int) -> Tensor:
    """[cells, pixels] float64: which share of each cell is covered by each pixel."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * (pixels / cells)
    left = torch.arange(pixels, dtype=torch.float64)
    start = torch.maximum(edges[:-1, None], left)
    end = torch.minimum(edges[1:, None], left + 1.0)
    return (end - start).clamp(min=0.0) * (cells / pixels)


def beyond(reward: Tensor, usual: Tensor) -> Tensor:
    """What rewards [B, h, w] are more than usual; exactly 0 where that is only rounding.

    Of equal rewards, nothing may be left: it would be scaled up to a whole round's signal.
    """
    more = reward - usual
    return torch.where(more.abs() > ROUNDING * reward.abs().max(), more, 0.0)


def leave_one_out(reward: Tensor) -> Tensor:
    """Each map minus the per-pixel mean of the others: [B, h, w] with B >= 2."""
    batch = reward.shape[0]
    return beyond(reward, reward.mean(dim=0)) * (batch / (batch - 1))


def remove_baseline(reward: Tensor, groups: Sequence[int], running: Tensor | None) -> Tensor:
    """Per-pixel leave-one-out mean per prompt group.

    reward: [B, h, w]; groups: B prompt ids. Groups smaller than MINIMUM_GROUP fall back to the
    whole batch, a batch of one to `running`, the run's moving-average map [h, w] (or none).
    """
    batch = reward.shape[0]
    if batch == 1:
        return reward if running is None else beyond(reward, running.to(reward))
    result = leave_one_out(reward)
    for group in set(groups):
        members = [i for i, other in enumerate(groups) if other == group]
        if len(members) >= MINIMUM_GROUP:
            result[members] = leave_one_out(reward[members])
    return result


def heat_kernel(size: int, radius: float) -> Tensor:
    """[size, size] float64 blur of standard deviation `radius` pixels with reflecting edges.

    The heat kernel of a row of pixels, in the cosine basis: symmetric, doubly stochastic and never
    negative, so it keeps the mean and constants exactly; an infinite radius gives the exact mean.
    """
    grid = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi / size * torch.outer(grid, grid + 0.5))
    basis = basis * math.sqrt(2.0 / size)
    basis[0] /= math.sqrt(2.0)
    decay = torch.zeros(size, dtype=torch.float64)
    decay[0] = 1.0
    if math.isfinite(radius):
        decay = torch.exp(-(radius**2) * (1.0 - torch.cos(math.pi / size * grid)))
    return basis.T @ (decay[:, None] * basis)


def blur(maps: Tensor, radius: float) -> Tensor:
    """Spread credit over `radius` latent pixels: [..., h, w]; 0 = PXPO, infinite = DDPO."""
    if radius == 0.0:
        return maps
    rows = heat_kernel(maps.shape[-2], radius).to(maps)
    columns = heat_kernel(maps.shape[-1], radius).to(maps)
    return rows @ maps @ columns


def scale_and_clip(
    maps: Tensor,
    run_scale: float | None,
    painted: bool,
    by_step: Tensor | None = None,
    foresight: Foresight | None = None,
) -> Advantage:
    """Divide by max(rms, run_scale) and clip to +-5; painted maps keep their own scale.

    run_scale None or 0: this is the run's first round with a signal, which sets it.
    """
    rms = float(maps.square().mean().sqrt())
    run_scale = run_scale or rms
    divisor = 1.0 if painted else max(rms, run_scale)
    divisor = divisor if divisor > 0.0 else 1.0

    def scaled(values: Tensor) -> Tensor:
        return (values / divisor).clamp(-CLIP, CLIP)

    return Advantage(
        scaled(maps),
        rms,
        run_scale,
        by_step=None if by_step is None else scaled(by_step),
        foresight=None if foresight is None else replace(foresight, scale=divisor),
    )


def painted_baseline(reward: Tensor, reviewed: Tensor, running: Tensor | None) -> Tensor:
    """Baseline over the images a person looked at; the others carry no signal.

    reward: [B, h, w]; reviewed: [B] bool. Returns [B, h, w], zero where not reviewed.
    """
    result = torch.zeros_like(reward)
    if reviewed.any():
        chosen = reward[reviewed]
        result[reviewed] = remove_baseline(chosen, [0] * chosen.shape[0], running)
    return result


def unmarked_pixels(maps: Tensor, credit_radius: float) -> Tensor:
    """Latent pixels without feedback and not near any: [B, h, w] bool.

    maps: [B, h, w], the area average of the *absolute* reward. What credit is spread to belongs to
    its mark, so that an anchor does not pull against it.
    """
    margin = MARGIN + math.ceil(min(credit_radius, max(maps.shape[1:])))
    return largest_within(maps, margin) == 0.0


def advantage_map(
    reward: Tensor,
    size: tuple[int, int],
    *,
    groups: Sequence[int] | None = None,
    reviewed: Tensor | None = None,
    painted: bool = False,
    running: Tensor | None = None,
    run_scale: float | None = None,
    credit_radius: float = 0.0,
    split: StepSplit | None = None,
) -> Advantage:
    """The whole chain for one round.

    reward: [B, H, W] signed, in image space. size: latent (h, w). groups: prompt id per image.
    reviewed: [B] bool, only for painted feedback. running: [h, w] moving average of earlier
    rounds. run_scale: see `scale_and_clip`. split: credits each step with its own part.
    """
    maps = area_average(reward, size)
    batch = maps.shape[0]
    looked_at = torch.ones(batch, dtype=torch.bool) if reviewed is None else reviewed

    def without_baseline(values: Tensor, running: Tensor | None = None) -> Tensor:
        if painted:
            return painted_baseline(values, looked_at, running)
        return remove_baseline(values, groups or [0] * batch, running)

    by_step, foresight = None, None
    if split is not None:
        by_step, foresight = split(maps, without_baseline)
        by_step = blur(by_step, credit_radius)
        foresight = None if foresight is None else replace(foresight, radius=credit_radius)
    worth = blur(without_baseline(maps, running), credit_radius)
    advantage = scale_and_clip(worth, run_scale, painted, by_step, foresight)
    unmarked = unmarked_pixels(area_average(reward.abs(), size), credit_radius)
    # A picture nobody looked at has no part in the round, so none in its anchor.
    unmarked &= looked_at[:, None, None]
    return replace(advantage, hold=PAINTED_HOLD if painted else 1.0, unmarked=unmarked.float())
