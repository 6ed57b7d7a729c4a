"""Starting a run from a LoRA that exists: its weights, in the shape the run's settings ask for."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from .lora import TARGETS, LoRAConfig, Policy, new_policy, target_layers
from .lora_file.keys import DOWN, UP


def start_from(loaded: Policy, root: nn.Module, config: LoRAConfig) -> Policy:
    """The run's first policy: the loaded LoRA's layers, and untrained ones where it has none.

    loaded: checked to fit `root`. Its alpha may differ: the scale moves into "up", so the effect is
    the same. Raises ValueError, saying which setting to change, when its rank is another or it
    holds layers that the run would not train.
    """
    if loaded.config.r != config.r:
        raise ValueError(
            f"has rank {loaded.config.r}, and r is {config.r}. Set r to {loaded.config.r}."
        )
    fresh = new_policy(root, config)
    strange = sorted(set(loaded.layers) - set(fresh.layers))
    if strange:
        raise ValueError(
            f"changes layers that target_modules = {config.target_modules!r} does not train, such "
            f"as {strange[0]:.80}. Set target_modules to {_enough(loaded, root, config)!r}."
        )
    factor = loaded.config.scaling / config.scaling
    taken = {
        name: tensor * factor if factor != 1.0 and name.endswith(UP) else tensor
        for name, tensor in loaded.tensors.items()
    }
    for layer in loaded.layers:
        down, up = layer + DOWN, layer + UP
        taken[down] = _trainable(taken[down], taken[up], fresh.tensors[down])
    return replace(fresh, tensors={**fresh.tensors, **taken})


def _trainable(down: Tensor, up: Tensor, fresh: Tensor) -> Tensor:
    """`down` with fresh rows where a layer of smaller rank was filled up with zeros.

    With zeros in "up" as well they have no effect yet, and would never have a gradient.
    """
    used = down.flatten(1).any(dim=1) | up.transpose(0, 1).flatten(1).any(dim=1)
    return torch.where(used.view(-1, *[1] * (down.ndim - 1)), down, fresh.to(down))


def _enough(loaded: Policy, root: nn.Module, config: LoRAConfig) -> str:
    """The smallest choice of layers that holds all of the LoRA's."""
    wanted = set(loaded.layers)
    wider = TARGETS[TARGETS.index(config.target_modules) + 1 :]
    return next(choice for choice in wider if wanted <= set(target_layers(root, choice)))
