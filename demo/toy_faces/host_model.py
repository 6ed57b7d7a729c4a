"""Toy Faces in ComfyUI's own classes: model family, latent format, text encoder.

Importing this module imports ComfyUI.
"""

from __future__ import annotations

from typing import Any, ClassVar

import comfy.latent_formats
import comfy.model_base
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import torch

from .text_encoder import WIDTH, ToyTextModel
from .tokenizer import END, MAX_LENGTH, PAD, START, WordTokenizer

CLIP_NAME = "toy"


class ToyLatentFormat(comfy.latent_formats.LatentFormat):
    """Scale of the latents and their linear map to colour; `fitted` is what training measured."""

    def __init__(self, fitted: dict[str, Any] | None = None) -> None:
        fitted = fitted or {}
        self.scale_factor: float = fitted.get("scale_factor", 1.0)
        self.latent_rgb_factors = fitted.get("latent_rgb_factors")
        self.latent_rgb_factors_bias = fitted.get("latent_rgb_factors_bias")


class ToyModelConfig(comfy.supported_models.SD15):
    """A member of the SD1.5 family with SD's beta schedule and 2.6 M parameters.

    It predicts v: on the noisiest steps a predicted noise would have to repeat its input to within
    a few percent to leave the right colour, which a network this small cannot.
    """

    unet_config: ClassVar[dict[str, Any]] = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "num_res_blocks": [1, 1, 1],
        "channel_mult": [1, 2, 3],
        "transformer_depth": [0, 0, 1],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [0, 0, 1, 0, 1, 1],
        "context_dim": WIDTH,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": False,
        "legacy": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
    }
    unet_extra_config: ClassVar[dict[str, Any]] = {"num_heads": -1, "num_head_channels": 32}
    latent_format = ToyLatentFormat
    supported_inference_dtypes: ClassVar[list[torch.dtype]] = [torch.float32]

    def model_type(self, state_dict: Any, prefix: str = "") -> comfy.model_base.ModelType:
        return comfy.model_base.ModelType.V_PREDICTION

    def __init__(self, fitted: dict[str, Any] | None = None) -> None:
        super().__init__(self.unet_config)
        self.latent_format = ToyLatentFormat(fitted)
        self.set_inference_dtype(torch.float32, None)


class ToySDTokenizer(comfy.sd1_clip.SDTokenizer):
    """Prompt-weight syntax around the word tokenizer."""

    def __init__(
        self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(
            tokenizer_path="",
            max_length=MAX_LENGTH,
            pad_with_end=False,
            pad_token=PAD,
            embedding_directory=embedding_directory,
            embedding_size=WIDTH,
            embedding_key=f"clip_{CLIP_NAME}",
            tokenizer_class=WordTokenizer,
            tokenizer_data=tokenizer_data or {},
        )


class ToyTokenizer(comfy.sd1_clip.SD1Tokenizer):
    """The tokenizer object a comfy CLIP holds."""

    def __init__(
        self, embedding_directory: Any = None, tokenizer_data: dict[str, Any] | None = None
    ) -> None:
        super().__init__(
            embedding_directory=embedding_directory,
            tokenizer_data=tokenizer_data or {},
            clip_name=CLIP_NAME,
            tokenizer=ToySDTokenizer,
        )


class ToySDClipModel(comfy.sd1_clip.SDClipModel):
    """ToyTextModel under SDClipModel, which applies prompt weights."""

    def __init__(
        self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None
    ) -> None:
        super().__init__(
            device=device,
            max_length=MAX_LENGTH,
            textmodel_json_config={},
            dtype=dtype,
            model_class=ToyTextModel,
            special_tokens={"start": START, "end": END, "pad": PAD},
            model_options=model_options or {},
        )


class ToyClipModel(comfy.sd1_clip.SD1ClipModel):
    """The model object a comfy CLIP holds."""

    def __init__(
        self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] | None = None
    ) -> None:
        super().__init__(
            device=device,
            dtype=dtype,
            model_options=model_options or {},
            clip_name=CLIP_NAME,
            clip_model=ToySDClipModel,
        )


def clip_target() -> comfy.supported_models_base.ClipTarget:
    """Tokenizer and text model classes for comfy.sd.CLIP."""
    return comfy.supported_models_base.ClipTarget(ToyTokenizer, ToyClipModel)
