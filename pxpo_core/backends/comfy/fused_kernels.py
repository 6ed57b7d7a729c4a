"""Newer hosts' fused rotary kernels, which have no backward, by formulas that have one.

The host itself avoids them while it trains, but not in every model (Cosmos, Ernie Image). Within a
session such a model gets the kernel library's own reference implementation instead: plain torch.
"""

import importlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from types import CodeType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_LIBRARY = "comfy_kitchen"
_REFERENCE = "comfy_kitchen.backends.eager.rope"
_KERNELS = (
    "apply_rope", "apply_rope1", "apply_rope_split_half", "apply_rope_split_half1",
    "rms_rope", "rms_rope1", "rms_rope_split_half", "rms_rope_split_half1",
)  # fmt: skip


def differentiable_kernels(network: nn.Module) -> Callable[[], AbstractContextManager[Any]]:
    """Makes contexts in which the network computes with kernels that have a backward.

    Every model call needs one, and so does a part of the model that is run again in backward. Does
    nothing for a network whose own code names none of these kernels.
    """
    references = _references() if uses_fused_kernels(network) else {}
    return (lambda: _References(references)) if references else nullcontext


def uses_fused_kernels(network: nn.Module) -> bool:
    """Whether the code of the network's layers calls one of the kernels by name."""
    names = set(_KERNELS)
    layers = {type(module) for module in network.modules()}
    return any(names & _called_names(function) for layer in layers for function in _methods(layer))


class _References(TorchFunctionMode):
    """While it is active, calls of an operator go to the function that stands for it."""

    def __init__(self, references: dict[Any, Callable[..., Any]]) -> None:
        super().__init__()
        self._references = references

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self._references.get(func, func)(*args, **(kwargs or {}))


def _references() -> dict[Any, Callable[..., Any]]:
    """Operator -> differentiable function; empty on a host without the library."""
    try:
        reference = importlib.import_module(_REFERENCE)
    except ImportError:
        return {}
    operators = getattr(torch.ops, _LIBRARY)
    found: dict[Any, Callable[..., Any]] = {}
    for name in _KERNELS:
        function, operator = getattr(reference, name, None), getattr(operators, name, None)
        if function is not None and operator is not None:
            found[operator] = found[operator.default] = function
    return found


def _methods(layer: type) -> Iterable[FunctionType]:
    return (member for member in vars(layer).values() if isinstance(member, FunctionType))


def _called_names(function: FunctionType) -> set[str]:
    """Attributes and globals a function and those inside it use."""
    names: set[str] = set()
    pending = [function.__code__]
    while pending:
        code = pending.pop()
        names.update(code.co_names)
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return names
