"""A trained LoRA acts the same wherever its file is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from pxpo_core.lora_file import Architecture, KeyFormat, LoRAInfo, SavedLoRA, save_lora

TOLERANCE = 1e-3
"""Largest difference allowed, relative to the largest change the LoRA makes (float32).

Measured here: 1.1e-5 for SD1.5, 3.8e-6 for SDXL.
"""

INFO = LoRAInfo("hair", Architecture("stable-diffusion-v1", "sd_v1"), run="hair", round=1)


def save(unet: Any, folder: Path, key_format: KeyFormat) -> SavedLoRA:
    from pxpo_core.backends.comfy.lora_files import model_unet_names

    names = model_unet_names(unet.model)
    return save_lora(folder, "hair_r0001", unet.policy, INFO, key_format, names)


def error(unet: Any, prediction: torch.Tensor) -> float:
    """Difference from the trained policy, relative to what it changes."""
    moved = (unet.trained - unet.base).abs().max()
    assert float(moved) > 1e-2 * float(unet.trained.abs().max())
    return float((prediction - unet.trained).abs().max() / moved)


@pytest.mark.parametrize("key_format", ["kohya", "generic"])
def test_the_host_loads_it(unet: Any, tmp_path: Path, key_format: KeyFormat) -> None:
    """The very calls of Load LoRA and LoraLoaderModelOnly."""
    import comfy.model_management
    import comfy.sd
    import comfy.utils

    path = save(unet, tmp_path, key_format).path
    state = comfy.utils.load_torch_file(str(path), safe_load=True)
    model, _ = comfy.sd.load_lora_for_models(unet.model, None, state, 1.0, 0.0)
    assert len(model.patches) == len(unet.policy.layers)
    comfy.model_management.load_models_gpu([model])
    prediction = unet.predict()
    comfy.model_management.load_models_gpu([unet.model])
    assert error(unet, prediction) <= TOLERANCE
    assert torch.equal(unet.predict(), unet.base)


@pytest.mark.parametrize("key_format", ["kohya", "diffusers"])
def test_diffusers_loads_it(unet: Any, tmp_path: Path, key_format: KeyFormat) -> None:
    from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
    from diffusers import StableDiffusionXLPipeline as XLPipeline

    path = save(unet, tmp_path, key_format).path
    network = unet.diffusers_unet()
    close = 1e-4 * unet.base.abs().max()
    assert float((unet.predict_in_diffusers(network) - unet.base).abs().max()) < float(close)
    parts = {"vae": None, "text_encoder": None, "tokenizer": None}
    if unet.kind == "sdxl":
        pipeline: Any = XLPipeline(
            **parts, text_encoder_2=None, tokenizer_2=None, unet=network,
            scheduler=EulerDiscreteScheduler(),
        )  # fmt: skip
    else:
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, unet=network,
            scheduler=EulerDiscreteScheduler(), requires_safety_checker=False,
        )  # fmt: skip
    pipeline.load_lora_weights(str(path))
    loaded = {name for name, _ in network.named_modules() if name.endswith("lora_A")}
    assert len(loaded) == len(unet.policy.layers)
    assert error(unet, unet.predict_in_diffusers(pipeline.unet)) <= TOLERANCE


@pytest.mark.parametrize("key_format", ["kohya", "generic", "diffusers"])
def test_we_read_it_back(unet: Any, tmp_path: Path, key_format: KeyFormat) -> None:
    from pxpo_core.backends.comfy.lora_files import read_model_lora

    path = save(unet, tmp_path, key_format).path
    loaded = read_model_lora(path, unet.model, tmp_path)
    assert loaded.metadata["pxpo.run"] == "hair"
    if key_format == "diffusers":  # the scale is inside the weights
        assert error(unet, unet.predict_with(loaded.policy)) <= TOLERANCE
    else:
        assert loaded.policy.digest == unet.policy.digest
