"""Which latents the sampling nodes take, and what they say about the others."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from pxpo_dev.comfyui import ComfyUI

ROOT = Path(__file__).resolve().parents[2]
NAME = "latents_pack"


@pytest.fixture(scope="module")
def node(comfyui: ComfyUI) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location(
        NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield importlib.import_module(f"{NAME}.nodes.picture_latent")
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def model(latent_format: str) -> Any:
    import comfy.latent_formats

    made = vars(comfy.latent_formats)[latent_format]()
    return SimpleNamespace(get_model_object=lambda name: made)


def latent(*shape: int, **more: Any) -> dict[str, Any]:
    return {"samples": torch.zeros(shape), **more}


def test_pictures_get_the_models_channels(node: ModuleType) -> None:
    assert node.picture_latent(model("SD15"), latent(7, 4, 5, 9)).shape == (7, 4, 5, 9)
    assert node.picture_latent(model("Flux"), latent(1, 4, 8, 8)).shape == (1, 16, 8, 8)


def test_one_frame_is_a_picture_for_a_video_model(node: ModuleType) -> None:
    wan = model("Wan21")
    assert node.picture_latent(wan, latent(2, 16, 8, 6)).shape == (2, 16, 8, 6)
    assert node.picture_latent(wan, latent(2, 16, 1, 8, 6)).shape == (2, 16, 8, 6)


@pytest.mark.parametrize(
    ("latent_format", "shape", "message"),
    [
        ("Wan21", (1, 16, 5, 8, 8), "a video of 5 frames. Set its length to 1"),
        ("SD15", (1, 4, 1, 8, 8), "is a video, and the model makes pictures"),
        ("SD15", (1, 4, 3, 8, 8), "a video of 3 frames"),
        ("StableAudio1", (1, 64, 32), r"no height and width \(\[1, 64, 32\]\)"),
    ],
)
def test_other_latents_are_refused(
    node: ModuleType, latent_format: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=f"PXPO works on pictures; this latent .*{message}"):
        node.picture_latent(model(latent_format), latent(*shape))


def test_a_pack_of_latents_is_refused(node: ModuleType) -> None:
    with pytest.raises(ValueError, match="a pack of several latents"):
        node.picture_latent(model("SD15"), {"samples": SimpleNamespace(is_nested=True)})


def test_an_empty_latent_is_fitted_where_the_host_can(node: ModuleType) -> None:
    import comfy.sample

    if "downscale_ratio_spacial" not in comfy.sample.fix_empty_latent_channels.__code__.co_varnames:
        pytest.skip("this ComfyUI does not note the factor")
    given = latent(1, 4, 32, 32, downscale_ratio_spacial=8)
    assert node.picture_latent(model("Flux2"), given).shape == (1, 128, 16, 16)
    done = node.sampled(given, torch.ones(1, 128, 16, 16))
    assert done.keys() == {"samples"}
