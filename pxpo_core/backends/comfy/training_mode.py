"""Making a loaded host model differentiable, and handing it back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management
import torch
from torch import nn


@contextmanager
def training_mode(*models: nn.Module) -> Iterator[None]:
    """Gradients on, the models' own parameters frozen; flags restored afterwards.

    Must be entered after the host has loaded the weights: loading can put inference tensors back.
    """
    with torch.inference_mode(False), torch.enable_grad(), differentiable_kernels():
        for model in models:
            _replace_inference_tensors(model)
        flags = [(p, p.requires_grad) for model in models for p in model.parameters()]
        try:
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """The host computes with kernels that have a backward; newer hosts have others for sampling.

    Sampling needs them too: a replay must give the predictions that were sampled.
    """
    management = comfy.model_management
    before = getattr(management, "in_training", None)
    if before is None:
        yield
        return
    management.in_training = True
    try:
        yield
    finally:
        management.in_training = before


def _replace_inference_tensors(model: nn.Module) -> None:
    """Same bits in ordinary tensors: autograd cannot save an inference tensor for backward."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None and parameter.is_inference():
                module._parameters[name] = nn.Parameter(
                    parameter.detach().clone(), requires_grad=parameter.requires_grad
                )
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_inference():
                module._buffers[name] = buffer.clone()
