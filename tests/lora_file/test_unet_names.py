"""Our names for UNet modules are the host's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pxpo_dev.comfyui import ComfyUI

from pxpo_core.lora_file import unet_names


def modules_with_weights(config: dict[str, Any]) -> list[str]:
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from comfy.ops import disable_weight_init

    with torch.device("meta"):
        network = UNetModel(**config, operations=disable_weight_init, device="meta")
    return [name for name, module in network.named_modules() if hasattr(module, "weight")]


def test_names_of_the_full_size_unets(comfyui: ComfyUI, unet_config: dict[str, Any]) -> None:
    import comfy.utils

    theirs: dict[str, set[str]] = {}
    for diffusers, ldm in comfy.utils.unet_to_diffusers(unet_config).items():
        if diffusers.endswith(".weight"):
            theirs.setdefault(ldm.removesuffix(".weight"), set()).add(
                diffusers.removesuffix(".weight")
            )
    names = unet_names(unet_config)
    assert names is not None
    modules = modules_with_weights(unet_config)
    assert len(modules) > 150
    for module in modules:
        assert names.diffusers(module) in theirs[module], module
    assert len({names.diffusers(module) for module in modules}) == len(modules)


@pytest.mark.parametrize(
    "module", ["", "input_blocks", "input_blocks.1", "input_blocks.1.0.unknown", "blocks.0.attn.q"]
)
def test_other_modules_have_no_name(unet_config: dict[str, Any], module: str) -> None:
    names = unet_names(unet_config)
    assert names is not None
    assert names.diffusers(module) is None


def test_other_architectures_are_no_unet() -> None:
    assert unet_names({"depth": 19, "hidden_size": 3072}) is None
