"""A deliberately in-place model: what its gradient is with and without our handling."""

from __future__ import annotations

import torch
from pxpo_dev.comfyui import ComfyUI
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


class Residual(nn.Module):
    """Blocks that add to their own input, after they have saved it for backward."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList(nn.Linear(6, 6).double() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = x * 1.0
        for layer in self.layers:
            x += torch.tanh(x.square() * layer(x))
        return x


def slope_error(model: Residual, gradient: Tensor, x: Tensor) -> float:
    """The gradient of the first layer's weight against a central difference along it."""
    weight, direction = model.layers[0].weight, gradient / gradient.norm()
    values = []
    with torch.no_grad():
        for h in (1e-5, -1e-5):
            weight += h * direction
            values.append(float(model(x).square().sum()))
            weight -= h * direction
    slope = (values[0] - values[1]) / 2e-5
    return abs(slope - float(gradient.norm())) / float(gradient.norm())


def test_copies_make_the_gradient_right(comfyui: ComfyUI) -> None:
    from pxpo_core.backends.comfy.in_place import SavedTensors, copy_unless_in

    model, x = Residual(), torch.randn(4, 6, dtype=torch.float64)
    saved = SavedTensors()
    with saved_tensors_hooks(saved.keep, lambda kept: kept):
        loss = model(x).square().sum()
    assert saved.overwritten
    (silently_wrong,) = torch.autograd.grad(loss, model.layers[0].weight)
    assert slope_error(model, silently_wrong, x) > 0.01

    with saved_tensors_hooks(copy_unless_in(model), lambda kept: kept):
        loss = model(x).square().sum()
    (gradient,) = torch.autograd.grad(loss, model.layers[0].weight)
    assert slope_error(model, gradient, x) < 1e-6


def test_a_model_that_leaves_its_tensors_alone_is_not_suspected(comfyui: ComfyUI) -> None:
    from pxpo_core.backends.comfy.in_place import SavedTensors

    saved = SavedTensors()
    with saved_tensors_hooks(saved.keep, lambda kept: kept):
        nn.Sequential(nn.Linear(6, 6), nn.SiLU(inplace=True), nn.Linear(6, 6))(torch.randn(4, 6))
    assert not saved.overwritten
