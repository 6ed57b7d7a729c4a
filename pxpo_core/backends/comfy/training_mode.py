"""Making a loaded host model differentiable, and handing it back as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import comfy.model_management
import torch
from torch import nn


@contextmanager
def training_mode(model: nn.Module) -> Iterator[None]:
    """Gradients on, the model's own parameters frozen; flags restored afterwards.

    Must be entered after the host has loaded the weights: loading can put inference tensors back.
    """
    management = comfy.model_management
    in_training = getattr(management, "in_training", None)
    with torch.inference_mode(False), torch.enable_grad():
        _replace_inference_tensors(model)
        flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
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
