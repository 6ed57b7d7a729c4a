"""Models that overwrite what their own gradient needs (Flux adds to its residuals in place).

Autograd refuses such a graph, and recomputing parts of it can even give a wrong gradient without a
word. Copies of what backward keeps make it right.
"""

from collections.abc import Callable

from torch import Tensor, nn


def copy_unless_in(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Copies what backward keeps, except the network's own weights, which nobody overwrites."""
    weights = {parameter.untyped_storage()._cdata for parameter in network.parameters()}
    return lambda kept: kept if kept.untyped_storage()._cdata in weights else kept.detach().clone()


class SavedTensors:
    """Watches one forward: `keep` is its pack hook, `overwritten` says what became of the tensors.

    A hook takes autograd's own check away, so the answer must be asked for.
    """

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, int]] = []

    def keep(self, tensor: Tensor) -> Tensor:
        """The tensor itself, with its version noted."""
        self._kept.append((tensor, tensor._version))
        return tensor

    @property
    def overwritten(self) -> bool:
        """Whether a tensor was changed after backward had asked for it."""
        return any(tensor._version != version for tensor, version in self._kept)
