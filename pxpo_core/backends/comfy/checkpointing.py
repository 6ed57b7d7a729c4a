"""Gradient checkpointing of a host's model: its blocks run again in the backward pass.

Only a block's inputs are kept (Chen et al. 2016). The gradient has the same bits: the graph is the
one it would be anyway, only what its nodes saved is made when it is needed. Blocks are wrapped per
instance and handed back afterwards. torch.utils.checkpoint is not used, because it gives wrong
gradients where a block works in place or reads options that change from block to block.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

Keep = Callable[[Tensor], Tensor]
"""How a tensor is kept until backward: as it is, or as a copy."""

Around = Callable[[], AbstractContextManager[Any]]

_MISSING = object()


def repeated_blocks(network: nn.Module) -> list[nn.Module]:
    """The model's parts that are worth repeating: members of its lists of layers.

    A member that holds a list of several such parts itself (SDXL's transformers) is divided.
    """
    blocks: dict[int, nn.Module] = {}

    def visit(module: nn.Module, listed: bool) -> None:
        for child in module.children():
            if isinstance(child, nn.ModuleList | nn.Sequential):
                visit(child, True)
            elif (inner := _main_list(child)) is not None:
                visit(inner, True)
            elif listed and any(True for _ in child.children()):
                blocks[id(child)] = child

    visit(network, False)
    return list(blocks.values())


def _main_list(module: nn.Module) -> nn.ModuleList | None:
    """The list that holds most of a module's parameters, if there is one of several members."""
    total = _size(module)
    for child in module.children():
        if isinstance(child, nn.ModuleList) and len(child) > 1 and 2 * _size(child) > total:
            return child
    return None


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def checkpointed(network: nn.Module, keep: Keep, around: Around = nullcontext) -> Iterator[None]:
    """Repeat `network`'s blocks in backward; its forwards are what they were afterwards.

    keep: how a block's inputs, and what it saves while it is repeated, are held. around: a context
    the first run is in; backward may run in another thread, where the repeated one needs it too.
    """

    def wrapped(forward: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return forward(*args, **kwargs)
            return _Repeated(forward, args, kwargs, keep, around).first_run(args, kwargs)

        return call

    with wrapped_blocks(network, wrapped):
        yield


@contextmanager
def wrapped_blocks(
    network: nn.Module, wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Iterator[None]:
    """`network`'s blocks with wrap(forward) as their forward, and without it afterwards."""
    changed: list[tuple[nn.Module, Any]] = []
    try:
        for block in repeated_blocks(network):
            changed.append((block, block.__dict__.get("forward", _MISSING)))
            block.forward = wrap(block.forward)
        yield
    finally:
        for block, before in reversed(changed):
            if before is _MISSING:
                block.__dict__.pop("forward", None)
            else:
                block.forward = before


class OverwrittenError(RuntimeError):
    """The model changed a tensor in place that its gradient needs."""

    def __init__(self) -> None:
        super().__init__("A tensor needed for the gradient was modified by an inplace operation.")


class _Kept:
    """A tensor until backward, without its graph; it must not have changed in between."""

    def __init__(self, tensor: Tensor, keep: Keep) -> None:
        kept = keep(tensor)
        self._requires_grad, self._copied = tensor.requires_grad, kept is not tensor
        self._tensor = kept.detach()
        self._version = _version(self._tensor)

    def get(self) -> Tensor:
        if _version(self._tensor) != self._version:
            raise OverwrittenError
        return self._tensor

    def as_input(self) -> Tensor:
        """As it came into a block; where the model works in place, one it may write into."""
        tensor = self.get().detach()
        if self._requires_grad:
            tensor.requires_grad_()
        return tensor.clone() if self._copied else tensor


class _Repeated:
    """One call of a block. What its graph saves is dropped, and made again when asked for."""

    def __init__(
        self, forward: Callable[..., Any], args: Any, kwargs: Any, keep: Keep, around: Around
    ) -> None:
        self._forward, self._keep, self._around = forward, keep, around
        # Options such as the block's number change before backward: the containers are copied too.
        self._inputs = map_tensors((args, kwargs), lambda tensor: _Kept(tensor, keep))
        self._shapes: list[torch.Size] = []
        self._values: list[_Kept] | None = None

    def first_run(self, args: Any, kwargs: Any) -> Any:
        with saved_tensors_hooks(self._drop, self._value):
            return self._forward(*args, **kwargs)

    def _drop(self, tensor: Tensor) -> int:
        self._shapes.append(tensor.shape)
        return len(self._shapes) - 1

    def _value(self, index: int) -> Tensor:
        if self._values is None:
            self._values = self._repeat()
        return self._values[index].get()

    def _repeat(self) -> list[_Kept]:
        values: list[_Kept] = []
        shapes: list[torch.Size] = []

        def save(tensor: Tensor) -> int:
            values.append(_Kept(tensor, self._keep))
            shapes.append(tensor.shape)
            return 0

        with torch.enable_grad(), self._around(), saved_tensors_hooks(save, _never):
            args, kwargs = map_tensors(self._inputs, _Kept.as_input, of=_Kept)
            self._forward(*args, **kwargs)
        if shapes != self._shapes:
            raise RuntimeError(
                "A part of the model did not repeat itself in the backward pass: a patch on the "
                "model gives something else each time it is called."
            )
        return values


def map_tensors(value: Any, change: Callable[[Any], Any], of: type = Tensor) -> Any:
    """`value` with every tensor in its tuples, lists and dicts changed; other things as they are.

    of: what to change instead of tensors.
    """
    if isinstance(value, of):
        return change(value)
    if type(value) is tuple:
        return tuple(map_tensors(item, change, of) for item in value)
    if type(value) is list:
        return [map_tensors(item, change, of) for item in value]
    if type(value) is dict:
        return {key: map_tensors(item, change, of) for key, item in value.items()}
    return value


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _never(_: int) -> Tensor:
    raise RuntimeError("The repeated forward is not differentiated itself.")
