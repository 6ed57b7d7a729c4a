"""Random pipelines of the SD1.5 and SDXL kinds, small enough to save and train in tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

SD15_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "cross_attention_dim": 32,
    "attention_head_dim": 4,
}
SDXL_UNET: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2),
    "cross_attention_dim": 64,
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 8,
    "projection_class_embeddings_input_dim": 32 + 6 * 8,
}


def sd15(folder: Path, prediction: str = "epsilon", seed: int = 0) -> Any:
    """A StableDiffusionPipeline for pictures of 8 pixels per latent pixel."""
    import diffusers

    return diffusers.StableDiffusionPipeline(
        vae=vae(seed),
        text_encoder=text_encoder(seed),
        tokenizer=tokenizer(folder / "words"),
        unet=unet(SD15_UNET, seed),
        scheduler=scheduler(prediction),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(folder: Path, prediction: str = "epsilon", seed: int = 0) -> Any:
    """A StableDiffusionXLPipeline with its size conditioning."""
    import diffusers

    words = tokenizer(folder / "words")
    return diffusers.StableDiffusionXLPipeline(
        vae=vae(seed),
        text_encoder=text_encoder(seed),
        text_encoder_2=text_encoder(seed + 1, projected=True),
        tokenizer=words,
        tokenizer_2=words,
        unet=unet(SDXL_UNET, seed),
        scheduler=scheduler(prediction),
        add_watermarker=False,
    )


KINDS = {"sd15": sd15, "sdxl": sdxl}


def unet(config: dict[str, Any], seed: int = 0) -> Any:
    from diffusers import UNet2DConditionModel

    return _randomised(UNet2DConditionModel(**config), seed)


def scheduler(prediction: str) -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        prediction_type=prediction, clip_sample=False, set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip


def vae(seed: int = 0) -> Any:
    """Factor 8, as in SD: four levels."""
    from diffusers import AutoencoderKL

    return _randomised(
        AutoencoderKL(
            block_out_channels=(8, 8, 8, 8), norm_num_groups=4, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=1, sample_size=64,
        ),
        seed,
    )  # fmt: skip


def text_encoder(seed: int = 0, *, projected: bool = False) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=_vocabulary_size(), hidden_size=32, intermediate_size=37, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=77, projection_dim=32,
        bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projected else transformers.CLIPTextModel
    return _randomised(kind(config), seed)


def tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer with a vocabulary of single letters."""
    import transformers

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1}
    for letter in _letters():
        vocabulary[letter] = len(vocabulary)
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return transformers.CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77
    )


def _letters() -> list[str]:
    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    return letters + [f"{letter}</w>" for letter in letters]


def _vocabulary_size() -> int:
    return 2 + len(_letters())


def _randomised(module: Any, seed: int) -> Any:
    """Weights that make every layer matter, the same for a seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            spread = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.1
            parameter.normal_(std=spread, generator=generator)
    return module.eval()
