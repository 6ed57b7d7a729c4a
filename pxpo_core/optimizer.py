"""AdamW over LoRA layers, with a state that is plain named tensors (safetensors, no pickle)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .lora import LoRALayers

_FIELDS = ("step", "exp_avg", "exp_avg_sq")


def make_optimizer(
    layers: LoRALayers, learning_rate: float, state: Mapping[str, Tensor]
) -> torch.optim.AdamW:
    """AdamW without weight decay; `state` is what `optimizer_state` returned, or empty."""
    optimizer = torch.optim.AdamW(
        list(layers.parameters.values()), lr=learning_rate, weight_decay=0.0
    )
    for name, parameter in layers.parameters.items():
        if f"{name}.step" in state:
            optimizer.state[parameter] = {
                "step": state[f"{name}.step"].clone(),
                "exp_avg": state[f"{name}.exp_avg"].to(parameter).clone(),
                "exp_avg_sq": state[f"{name}.exp_avg_sq"].to(parameter).clone(),
            }
    return optimizer


def optimizer_state(optimizer: torch.optim.AdamW, layers: LoRALayers) -> dict[str, Tensor]:
    """<parameter>.step, .exp_avg and .exp_avg_sq of every parameter that has been stepped."""
    return {
        f"{name}.{field}": optimizer.state[parameter][field].detach().cpu().clone()
        for name, parameter in layers.parameters.items()
        if parameter in optimizer.state
        for field in _FIELDS
    }
