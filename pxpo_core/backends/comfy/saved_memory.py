"""What a gradient keeps in memory, counted in one forward of one picture that keeps nothing.

Every tensor autograd wants to save is dropped and its bytes are added up, so the count needs no
more memory than sampling does, and no knowledge of the model.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef

from .checkpointing import map_tensors, wrapped_blocks


@dataclass(frozen=True, slots=True)
class SavedMemory:
    """Bytes kept until backward: `picture` for each picture of a micro-batch, `weights` once.

    weights: copies of weights the host makes for one call (other precision, offloaded).
    largest_block: the most that any one block keeps, per picture.
    overwritten: the model works in place on something it saved.
    """

    picture: int
    weights: int
    largest_block: int
    overwritten: bool = False

    def needed(self, pictures: int) -> int:
        """Bytes at the peak: what is kept, and the gradients of the block at work."""
        return self.weights + pictures * (self.picture + self.largest_block)


@dataclass(frozen=True, slots=True)
class Measured:
    """The same forward, without and with gradient checkpointing."""

    plain: SavedMemory
    checkpointed: SavedMemory


class LeftOverGraphError(RuntimeError):
    """A later gradient reached into the forward that was only counted."""


class SavedBytes:
    """Counts what a forward saves; use `counting` around it, then read `measured`."""

    def __init__(self, network: nn.Module, ours: Iterable[Tensor]) -> None:
        """ours: LoRA parameters; neither they nor the network's own weights count."""
        self._network = network
        weights = [*network.parameters(), *network.buffers()]
        self._free = {_storage(t) for t in [*weights, *ours]}
        self._shapes = {w.shape for w in weights if w.ndim > 1}
        self._shapes |= {w.shape[::-1] for w in weights if w.ndim == 2}
        self._outside, self._inputs, self._all = _Tally(), _Tally(), _Tally()
        self._blocks: list[_Tally] = []
        self._seen: dict[int, StorageWeakRef] = {}
        self._versions: dict[int, int] = {}
        self._overwritten = False

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Within it, no tensor is kept for backward."""
        with (
            wrapped_blocks(self._network, self._block),
            saved_tensors_hooks(self._drop(self._outside), _never),
        ):
            yield

    @property
    def measured(self) -> Measured:
        largest = max(self._blocks, key=lambda tally: tally.picture, default=_Tally())
        weights = max((tally.weights for tally in self._blocks), default=0)
        kept = _Tally()
        for tally in (self._outside, self._inputs):
            kept.bytes.update(tally.bytes)
        return Measured(
            SavedMemory(
                self._all.picture, self._all.weights, largest.picture, self._overwritten
            ),
            SavedMemory(
                kept.picture + largest.picture, kept.weights + weights, largest.picture,
                self._overwritten,
            ),
        )  # fmt: skip

    def _block(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            tally = _Tally()
            self._blocks.append(tally)
            map_tensors((args, kwargs), lambda tensor: self._count(tensor, self._inputs))
            with saved_tensors_hooks(self._drop(tally), _never):
                return forward(*args, **kwargs)

        return call

    def _drop(self, tally: "_Tally") -> Callable[[Tensor], None]:
        def drop(tensor: Tensor) -> None:
            self._count(tensor, tally)
            self._count(tensor, self._all)
            if not tensor.is_inference():
                version = self._versions.setdefault(_storage(tensor), tensor._version)
                self._overwritten |= version != tensor._version

        return drop

    def _count(self, tensor: Tensor, tally: "_Tally") -> None:
        storage = tensor.untyped_storage()
        key = _storage(tensor)
        if key in self._free:
            return
        if key not in self._seen:
            # A weak reference keeps the storage's address from being used again.
            self._seen[key] = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
        is_weight = not tensor.requires_grad and tensor.shape in self._shapes
        tally.bytes[key] = (storage.nbytes(), is_weight)


@dataclass
class _Tally:
    """Bytes by storage; True marks a copy of a weight."""

    bytes: dict[int, tuple[int, bool]] = field(default_factory=dict)

    @property
    def picture(self) -> int:
        return sum(size for size, is_weight in self.bytes.values() if not is_weight)

    @property
    def weights(self) -> int:
        return sum(size for size, is_weight in self.bytes.values() if is_weight)


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _never(_: None) -> Tensor:
    raise LeftOverGraphError
