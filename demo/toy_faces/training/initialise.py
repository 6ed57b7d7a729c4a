"""Explicit initialisation: ComfyUI's layers leave their parameters uninitialised."""

from __future__ import annotations

import math

import torch
from torch import nn

ZERO_SUFFIXES = ("out_layers.3", "proj_out", "out.2")


@torch.no_grad()
def initialise(module: nn.Module, zero_suffixes: tuple[str, ...] = ()) -> None:
    """PyTorch's usual initialisation; layers whose name ends in a given suffix start at zero."""
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            bound = 1.0 / math.sqrt(layer.weight[0].numel())
            zero = name.endswith(zero_suffixes) if zero_suffixes else False
            for parameter in layer.parameters(recurse=False):
                if zero:
                    nn.init.zeros_(parameter)
                else:
                    nn.init.uniform_(parameter, -bound, bound)
        elif isinstance(layer, nn.GroupNorm | nn.LayerNorm):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding):
            nn.init.normal_(layer.weight, std=0.3)
