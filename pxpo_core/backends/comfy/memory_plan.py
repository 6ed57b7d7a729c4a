"""How many pictures are trained at once: as many as fit; checkpointing only where they must."""

from dataclasses import dataclass

from .backward import Backward
from .saved_memory import Measured, SavedMemory

USABLE = 0.9
"""Share of the free memory that is planned with; the rest is for what sampling needs anyway."""

USABLE_ON_CPU = 0.55
"""There memory that runs out raises no error but ends the program, and the peak was measured to be
1.7 times what is counted (SD1.5 at 512x512): buffers of kernels, and of the allocator."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What one update will do. needed, available: bytes at the peak, on the model's device."""

    micro_batch: int
    checkpointing: bool
    copies: bool
    needed: int
    available: int

    @property
    def backward(self) -> Backward:
        return Backward(copies=self.copies, checkpointing=self.checkpointing, reserve=self.needed)

    @property
    def text(self) -> str:
        """For the person who waits."""
        pictures = "1 picture" if self.micro_batch == 1 else f"{self.micro_batch} pictures"
        slower = ", and is slower to save memory" if self.checkpointing else ""
        return (
            f"Training {pictures} at a time; needs about {_gigabytes(self.needed)} of "
            f"{_gigabytes(self.available)} GB{slower}"
        )


def plan_training(
    measured: Measured, most: int, available: int, share: float = USABLE
) -> TrainingPlan:
    """The largest micro-batch up to `most` that fits into a share of `available` bytes.

    Keeping everything for backward is faster than repeating the forward, even for one picture at a
    time; when not even that fits, repeating lets more pictures through at once. One picture with
    repeating is tried in any case: the host may still move weights out of the way.
    """
    usable = int(share * available)
    plain, checkpointed = measured.plain, measured.checkpointed
    saved = plain if plain.needed(1) <= usable else checkpointed
    pictures = max(1, min(most, _fitting(saved, usable)))
    return TrainingPlan(
        micro_batch=pictures,
        checkpointing=saved is checkpointed,
        copies=saved.overwritten,
        needed=saved.needed(pictures),
        available=available,
    )


def _fitting(saved: SavedMemory, usable: int) -> int:
    per_picture = max(1, saved.needed(1) - saved.needed(0))
    return max(0, usable - saved.needed(0)) // per_picture


def _gigabytes(size: int) -> str:
    return f"{max(size / 1024**3, 0.1):.1f}"
