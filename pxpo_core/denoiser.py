"""What the algorithm needs to know about a model: one callable, and a session that lends it."""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from torch import Tensor

T = TypeVar("T")


class Denoiser(Protocol):
    """Predicts the clean latent, with guidance already applied."""

    def __call__(self, x: Tensor, sigma: float, samples: Sequence[int]) -> Tensor:
        """Return D(x, sigma).

        x: [b, C, h, w] float32 latent at noise level sigma (the model's own sigma space).
        samples: the b rollout samples the rows of x belong to (conditioning may differ by sample).
        Returns float32 of x's shape; differentiable where the caller's grad mode asks for it.
        """
        ...


class Session(Protocol):
    """Lends a Denoiser: the host loads the model, runs `work` with it, and cleans up after it."""

    def __call__(self, work: Callable[[Denoiser], T]) -> T: ...
