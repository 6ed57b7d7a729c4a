"""A rollout: one batch of sampled trajectories, with everything an update needs to replay it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .denoiser import Denoiser
from .transition import Family, Step, make_steps

Process = Literal["reverse", "forward"]
"""reverse: states of a sampling path. forward: finished pictures with fresh noise added."""

Progress = Callable[[int, Tensor, Tensor], None]
"""Called as progress(step index, denoised, x) after each model call."""


@dataclass(frozen=True, slots=True)
class Trajectory:
    """T noisy states of B latents; float32, on the CPU.

    states: [T, B, C, h, w], x_t before each step. noises: [T, B, C, h, w], the z of each step
    (0 for a step without noise). x_0: [B, C, h, w]. sigmas: T + 1 falling values.
    process "forward": made by `diffuse`; z is the noise inside each state.
    """

    states: Tensor
    noises: Tensor
    x_0: Tensor
    sigmas: tuple[float, ...]
    family: Family
    eta: float
    noise_scale: float = 1.0
    process: Process = "reverse"

    @property
    def steps(self) -> tuple[Step, ...]:
        return make_steps(self.family, self.sigmas, self.eta, self.noise_scale)

    @property
    def trainable(self) -> tuple[int, ...]:
        """Indices of the steps with something to learn from.

        reverse: those with a density; forward: those whose state shows anything of the picture.
        """
        if self.process == "forward":
            return tuple(i for i, step in enumerate(self.steps) if step.a_t > 0.0)
        return tuple(i for i, step in enumerate(self.steps) if step.is_stochastic)

    @property
    def is_finished(self) -> bool:
        """Whether x_0 is a picture: a schedule that ends above 0 leaves the rest to others."""
        return self.process == "forward" or self.sigmas[-1] == 0.0

    @property
    def batch(self) -> int:
        return int(self.x_0.shape[0])

    def rows(self, chosen: slice) -> "Trajectory":
        """The paths of some of the pictures."""
        return replace(
            self,
            states=self.states[:, chosen],
            noises=self.noises[:, chosen],
            x_0=self.x_0[chosen],
        )


def draw_noise(
    shape: Sequence[int], count: int, seed: int, round_: int, samples: Sequence[int]
) -> Tensor:
    """`count` standard normal tensors of `shape` per sample: [count, len(samples), *shape].

    Each sample has its own generator, seeded by (seed, round, sample): its noise does not depend
    on the batch it is drawn in, and a longer schedule keeps the earlier draws.
    """
    draws = []
    for sample in samples:
        entropy = np.random.SeedSequence([seed, round_, sample]).generate_state(1, np.uint64)[0]
        # Torch seeds are signed on some builds: keep to 63 bits.
        generator = torch.Generator().manual_seed(int(entropy) & (2**63 - 1))
        # One call per draw: the values of one large call depend on its size.
        draws.append(
            torch.stack([torch.randn(tuple(shape), generator=generator) for _ in range(count)])
        )
    return torch.stack(draws, dim=1)


def sample_trajectory(
    denoise: Denoiser,
    x: Tensor,
    noises: Tensor,
    sigmas: Sequence[float],
    family: Family,
    eta: float,
    noise_scale: float = 1.0,
    progress: Progress | None = None,
) -> Trajectory:
    """Sample along `sigmas` from x_T and keep the path.

    x: [B, C, h, w], x_T at noise level sigmas[0]. noises: [T, B, C, h, w].
    """
    steps = make_steps(family, sigmas, eta, noise_scale)
    samples = range(x.shape[0])
    states, used = [], []
    for i, step in enumerate(steps):
        states.append(x.detach().cpu())
        denoised = denoise(x, step.sigma_t, samples)
        z = noises[i].to(x) if step.is_stochastic else torch.zeros_like(x)
        if progress is not None:
            progress(i, denoised, x)
        x = denoised if step.sigma_s == 0.0 else step.mean(x, denoised) + step.std * z
        used.append(z.cpu())
    return Trajectory(
        states=torch.stack(states),
        noises=torch.stack(used),
        x_0=x.detach().cpu(),
        sigmas=tuple(sigmas),
        family=family,
        eta=eta,
        noise_scale=noise_scale,
    )


FRESH = 2**40
"""Added to seeds of noise for finished pictures: the sampled path's is part of them."""


def finished_pictures(
    trajectory: Trajectory, seed: int, round_: int, samples: Sequence[int]
) -> Trajectory:
    """A sampled path's finished pictures with fresh noise, see `diffuse`; others stay as they are.

    seed, round_, samples: as in `draw_noise`.
    """
    if trajectory.process == "forward":
        return trajectory
    x_0 = trajectory.x_0
    count = len(trajectory.sigmas) - 1
    noises = draw_noise(x_0.shape[1:], count, seed + FRESH, round_, samples)
    return diffuse(x_0, noises, trajectory.sigmas, trajectory.family, trajectory.noise_scale)


def diffuse(
    x_0: Tensor, noises: Tensor, sigmas: Sequence[float], family: Family, noise_scale: float = 1.0
) -> Trajectory:
    """Finished latents with noise added at every level of a schedule, for the forward process.

    x_0: [B, C, h, w] in the model's own units. noises: [T, B, C, h, w]. sigmas: T + 1 values.
    """
    steps = make_steps(family, sigmas, 1.0, noise_scale)
    x_0 = x_0.detach().cpu()
    states = [
        step.a_t * x_0 + noise_scale * step.sigma_t * z
        for step, z in zip(steps, noises, strict=True)
    ]
    return Trajectory(
        torch.stack(states), noises, x_0, tuple(sigmas), family, 1.0, noise_scale, "forward"
    )
