"""Toy Faces in the real ComfyUI."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from demo.toy_faces.weights_io import UNET_FILE, WEIGHT_FILES, WEIGHTS_DIR, DamagedWeightsError


@pytest.fixture(scope="module")
def bundle(comfyui: object) -> tuple[Any, Any, Any]:
    """MODEL, CLIP, VAE."""
    del comfyui
    from demo.toy_faces.loader import load_toy_faces

    return load_toy_faces()


def encode(clip: Any, text: str) -> torch.Tensor:
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0]


def test_prompt_becomes_32_tokens(bundle: tuple[Any, Any, Any]) -> None:
    cond = encode(bundle[1], "portrait, red hair")
    assert cond.shape == (1, 32, 128)
    assert cond.dtype == torch.float32


def test_prompt_weights_change_only_their_words(bundle: tuple[Any, Any, Any]) -> None:
    plain, heavy = (
        encode(bundle[1], "red hair, dark skin"),
        encode(bundle[1], "(red hair:1.2), dark skin"),
    )
    changed = (plain != heavy).any(-1)[0]
    assert changed.nonzero().flatten().tolist() == [1, 2]


def test_long_prompts_are_continued(bundle: tuple[Any, Any, Any]) -> None:
    assert encode(bundle[1], "masterpiece " * 40).shape == (1, 64, 128)


def test_training_and_host_tokenise_alike(bundle: tuple[Any, Any, Any]) -> None:
    from demo.toy_faces.tokenizer import padded_ids

    text = "portrait, long red hair, dark skin, green background"
    tokens = bundle[1].tokenize(text)["toy"]
    assert [[token for token, _ in part] for part in tokens] == [padded_ids(text)]


def test_vae_round_trip(bundle: tuple[Any, Any, Any]) -> None:
    from demo.toy_faces.generator import portrait

    image = torch.from_numpy(portrait(1).image.copy())[None].float() / 255
    latent = bundle[2].encode(image)
    assert latent.shape == (1, 4, 32, 32)
    again = bundle[2].decode(latent)
    assert again.shape == image.shape
    assert (again - image).abs().mean() < 0.02


def test_latents_have_the_trained_spread_in_the_model(bundle: tuple[Any, Any, Any]) -> None:
    from demo.toy_faces.generator import portrait

    images = (
        torch.stack([torch.from_numpy(portrait(s).image.copy()) for s in range(8)]).float() / 255
    )
    from demo.toy_faces.training.latents_stage import SPREAD

    scaled = bundle[0].model.process_latent_in(bundle[2].encode(images))
    assert scaled.std().item() == pytest.approx(SPREAD, abs=0.05)
    assert scaled.mean().abs() < 0.1


def test_preview_map_shows_the_picture(bundle: tuple[Any, Any, Any]) -> None:
    from demo.toy_faces.generator import portrait

    image = torch.from_numpy(portrait(2).image.copy())[None].float() / 255
    model, _, vae = bundle
    latent = model.model.process_latent_in(vae.encode(image))[0]
    form = model.model.latent_format
    rgb = torch.einsum("chw,cd->hwd", latent, torch.tensor(form.latent_rgb_factors))
    rgb = (rgb + torch.tensor(form.latent_rgb_factors_bias) + 1) / 2
    thumbnail = torch.nn.functional.avg_pool2d(image.permute(0, 3, 1, 2), 8)[0].permute(1, 2, 0)
    assert (rgb - thumbnail).abs().mean() < 0.12


@torch.inference_mode()
def test_sampling_follows_the_prompt(bundle: tuple[Any, Any, Any]) -> None:
    from demo.toy_faces.evaluate import Settings, prompt_following, sample

    prompts = ["portrait, long red hair, dark skin, green background"] * 2
    images = sample(bundle, prompts, 1, Settings(steps=12))
    assert images.shape == (2, 256, 256, 3)
    assert prompt_following(images, prompts, WEIGHTS_DIR)["share_right"]["background"] == 1.0


def test_same_seed_same_picture(bundle: tuple[Any, Any, Any]) -> None:
    from demo.toy_faces.evaluate import Settings, sample

    with torch.inference_mode():
        one, two = (sample(bundle, ["bald"], 5, Settings(steps=3)) for _ in range(2))
    assert torch.equal(one, two)


def test_damaged_weights_stop_the_loader(bundle: tuple[Any, Any, Any], tmp_path: Path) -> None:
    from demo.toy_faces.loader import load_toy_faces

    for name in WEIGHT_FILES:
        shutil.copy(WEIGHTS_DIR / name, tmp_path)
    (tmp_path / UNET_FILE).write_bytes(b"not safetensors")
    with pytest.raises(DamagedWeightsError, match=r"unet\.safetensors"):
        load_toy_faces(tmp_path)


def test_host_globals_are_left_alone(bundle: tuple[Any, Any, Any]) -> None:
    import comfy.supported_models

    from demo.toy_faces.host_model import ToyModelConfig

    assert ToyModelConfig not in comfy.supported_models.models
