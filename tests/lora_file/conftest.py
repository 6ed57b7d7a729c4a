"""The narrow UNets of SD1.5 and SDXL, with a trained LoRA."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from lora_unets import NARROW, REAL, UNet, trained_unet
from pxpo_dev.comfyui import ComfyUI


@pytest.fixture(params=["sd15", "sdxl"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def unet_config(kind: str) -> dict[str, Any]:
    """The full-size model's."""
    return REAL[kind]


@pytest.fixture(scope="session")
def make_unet(comfyui: ComfyUI) -> Callable[[str], UNet]:
    """The narrow model of a kind, with a LoRA trained for one round; made once."""
    made: dict[str, UNet] = {}

    def make(kind: str) -> UNet:
        if kind not in made:
            made[kind] = trained_unet(kind, NARROW[kind])
        return made[kind]

    return make


@pytest.fixture
def unet(make_unet: Callable[[str], UNet], kind: str) -> UNet:
    return make_unet(kind)
