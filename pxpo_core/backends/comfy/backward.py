"""How a gradient through a host's model is computed: what is kept, what is made again."""

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from comfy.patcher_extension import WrappersMP
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from .checkpointing import Keep, checkpointed
from .fused_kernels import differentiable_kernels
from .in_place import copy_unless_in
from .patches import OrdinaryTensors, holds_inference_tensors

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


@dataclass(frozen=True, slots=True)
class Backward:
    """copies: keep copies, for models that write in place over what their gradient needs.

    checkpointing: run the model's blocks again instead of keeping what is inside them. reserve:
    bytes the host is asked to leave free when it loads the model.
    """

    copies: bool = False
    checkpointing: bool = False
    reserve: int = 0

    @contextmanager
    def prepared(self, guider: Any) -> Iterator[bool]:
        """Around every model call of a session; to be entered after the host loaded the model.

        Gives True when everything is copied, so that work in place cannot do harm.
        """
        network = guider.inner_model.diffusion_model
        patcher = guider.model_patcher
        weights_change = bool(patcher.hook_patches)
        keep: Keep = _as_it_is
        if weights_change:
            # LoRAs on a prompt are written into the weights, and out again, between model calls.
            keep = _copy
        elif self.copies or _streams_weights(patcher):
            keep = copy_unless_in(network)
        kernels = differentiable_kernels(network)
        tensors = OrdinaryTensors if holds_inference_tensors(patcher) else nullcontext

        @contextmanager
        def around() -> Iterator[None]:
            with kernels(), tensors():
                yield

        with ExitStack() as stack:
            stack.enter_context(around())
            if keep is not _as_it_is:
                stack.enter_context(saved_tensors_hooks(keep, _as_it_is))
            if self.checkpointing and not weights_change:
                stack.enter_context(checkpointed(network, keep, around))
            yield keep is not _as_it_is

    def reserve_memory(self, model: "ModelPatcher") -> None:
        """Have the host leave `reserve` bytes free when it loads `model`, a clone of ours.

        The host only knows what sampling needs. It is told of a batch that needs as much: it then
        moves other models, and weights of this one, out of the way.
        """
        if self.reserve <= 0:
            return

        def prepare(
            executor: Any, patcher: Any, noise_shape: Any, *args: Any, **kwargs: Any
        ) -> Any:
            per_row = float(patcher.model.memory_required([1, *noise_shape[1:]]))
            rows = max(noise_shape[0], math.ceil(self.reserve / max(per_row, 1.0)))
            return executor(patcher, [rows, *noise_shape[1:]], *args, **kwargs)

        model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "pxpo", prepare)


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def _streams_weights(patcher: Any) -> bool:
    """Whether weights come through a buffer that the next layer's overwrite (newer hosts)."""
    is_dynamic: Callable[[], bool] | None = getattr(patcher, "is_dynamic", None)
    return bool(patcher.model.model_lowvram) or (is_dynamic is not None and is_dynamic())
