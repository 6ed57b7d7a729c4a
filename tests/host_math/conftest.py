"""Small random models of every family, built by the real ComfyUI and called by its own guider."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import small_models
import torch
from pxpo_dev.comfyui import ComfyUI
from small_models import Family

Build = Callable[..., Family]


@pytest.fixture(scope="session")
def build(comfyui: ComfyUI) -> Build:
    """A family's model by name, made once; one this ComfyUI does not have is skipped."""
    built: dict[tuple[str, torch.dtype], Family] = {}

    def once(name: str, dtype: torch.dtype = torch.float32) -> Family:
        if name not in small_models.available():
            pytest.skip(f"ComfyUI {comfyui.version} has no {name}")
        if (name, dtype) not in built:
            with torch.inference_mode():
                built[name, dtype] = small_models.build(name, dtype)
        return built[name, dtype]

    return once


@pytest.fixture
def family(request: pytest.FixtureRequest, build: Build) -> Iterator[Family]:
    """The family named by indirect parametrisation, in what every node body runs in."""
    made = build(request.param)
    with torch.inference_mode():
        yield made


@pytest.fixture
def precise(request: pytest.FixtureRequest, build: Build) -> Iterator[Family]:
    """The same in float64."""
    made = build(request.param, torch.float64)
    with torch.inference_mode():
        yield made
