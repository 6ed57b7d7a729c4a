"""Making a loaded host model differentiable, and handing it back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import torch
from torch import Tensor, nn


@contextmanager
def training_mode(*models: nn.Module) -> Iterator[None]:
    """Gradients on, the models' own parameters frozen; flags restored afterwards.

    Must be entered after the host has loaded the weights: loading can put inference tensors back.
    """
    with torch.inference_mode(False), torch.enable_grad():
        quantised: list[_Replaced] = []
        for model in models:
            _replace_inference_tensors(model, quantised)
        try:
            with replayable_mode(*models):
                yield
        finally:
            for module, name, parameter in quantised:
                module._parameters[name] = parameter


@contextmanager
def replayable_mode(*models: nn.Module) -> Iterator[None]:
    """Computing as training does, so that a replay gives the very predictions that were sampled.

    Newer hosts sample with kernels that have no backward, and torch multiplies in another way by a
    matrix that asks for a gradient. Kernels and flags are the host's again afterwards.
    """
    management = comfy.model_management
    in_training = getattr(management, "in_training", None)
    flags = [(p, p.requires_grad) for model in models for p in model.parameters()]
    try:
        if in_training is not None:
            management.in_training = True
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield
    finally:
        if in_training is not None:
            management.in_training = in_training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


def _replace_inference_tensors(model: nn.Module, quantised: list["_Replaced"]) -> None:
    """Same bits in ordinary tensors: autograd cannot save an inference tensor for backward.

    quantised: gets the weights that have to be put back. They are a host's own kind of tensor: a
    new wrapper around the same numbers is enough, but in inference mode nobody can detach it.
    """
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None or not parameter.is_inference():
                continue
            if hasattr(parameter, "__tensor_flatten__"):
                quantised.append((module, name, parameter))
                module._parameters[name] = nn.Parameter(_rewrapped(parameter), requires_grad=False)
            else:
                module._parameters[name] = nn.Parameter(
                    parameter.detach().clone(), requires_grad=parameter.requires_grad
                )
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_inference():
                module._buffers[name] = buffer.clone()


_Replaced = tuple[nn.Module, str, nn.Parameter]


def _rewrapped(parameter: Any) -> Tensor:
    """Another wrapper around a tensor subclass's inner tensors."""
    inner, context = parameter.__tensor_flatten__()
    tensors = {name: getattr(parameter, name) for name in inner}
    wrapped: Tensor = type(parameter).__tensor_unflatten__(
        tensors, context, parameter.size(), parameter.stride()
    )
    return wrapped
