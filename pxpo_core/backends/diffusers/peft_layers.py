"""A policy as a PEFT adapter on a diffusers UNet, there only while it is used."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import peft
import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from ...lora import LoRALayers, Policy
from ...lora_file.unet_names import UNetNames
from .loading import PipelineError

ADAPTER = "pxpo"


class PEFTLayers(LoRALayers):
    """`LoRALayers` that PEFT adds to the model: the same parameters under the same names."""

    def __init__(
        self, policy: Policy, names: UNetNames, device: torch.device | str = "cpu"
    ) -> None:
        super().__init__(policy, device)
        self._diffusers: dict[str, str] = {}
        for layer in policy.layers:
            name = names.diffusers(layer)
            if name is None:
                raise PipelineError(f"diffusers has no layer {layer}.")
            self._diffusers[layer] = name

    @contextmanager
    def attached(self, root: nn.Module) -> Iterator[None]:
        """The adapter in `root` (a UNet); afterwards every module and flag is the one it was.

        Raises PipelineError when another adapter is in the UNet already.
        """
        if any(isinstance(module, LoraLayer) for module in root.modules()):
            raise PipelineError(
                "This UNet already has an adapter. Merge it first: pipeline.fuse_lora(), then "
                "pipeline.unload_lora_weights()."
            )
        before = {name: root.get_submodule(name) for name in self._diffusers.values()}
        flags = [(parameter, parameter.requires_grad) for parameter in root.parameters()]
        attributes = set(vars(root))
        try:
            # Empty weights: ours take their place.
            peft.inject_adapter_in_model(self._config_for(root), root, ADAPTER, True)
            for layer, name in self._diffusers.items():
                adapted = root.get_submodule(name)
                assert isinstance(adapted, LoraLayer)
                for part, which in ((adapted.lora_A, "down"), (adapted.lora_B, "up")):
                    part[ADAPTER].weight = self.parameters[f"{layer}.lora_{which}.weight"]
            yield
        finally:
            for name, module in before.items():
                root.set_submodule(name, module)
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
            for attribute in set(vars(root)) - attributes:
                delattr(root, attribute)

    def _config_for(self, root: nn.Module) -> peft.LoraConfig:
        """PEFT's settings for exactly these layers."""
        names = "|".join(re.escape(name) for name in self._diffusers.values())
        return peft.LoraConfig(
            r=self._config.r,
            lora_alpha=self._config.lora_alpha,
            target_modules=f"({names})",
            lora_dropout=0.0,
            bias="none",
            init_lora_weights=False,
        )
