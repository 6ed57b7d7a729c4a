"""SD1.5 and SDXL as they are released, with random weights instead of trained ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

CONTEXT_TOKENS = 77

SD15 = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320,
    "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4], "num_heads": 8,
    "use_spatial_transformer": True, "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1, "context_dim": 768, "use_linear_in_transformer": False,
    "adm_in_channels": None, "use_temporal_attention": False, "legacy": False,
}  # fmt: skip
SDXL = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320,
    "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "num_head_channels": 64,
    "use_spatial_transformer": True, "transformer_depth": [0, 0, 2, 2, 10, 10],
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "transformer_depth_middle": 10,
    "context_dim": 2048, "use_linear_in_transformer": True, "adm_in_channels": 2816,
    "num_classes": "sequential", "use_temporal_attention": False, "legacy": False,
}  # fmt: skip

ARCHITECTURES = {"sd15": SD15, "sdxl": SDXL}


@dataclass
class FullModel:
    """A MODEL with a positive and a negative prompt of random tokens."""

    model: Any
    positive: Any
    negative: Any
    parameters: int


def build(name: str, dtype: torch.dtype) -> FullModel:
    """sd15 or sdxl; weights in `dtype`, computed in float32. As a node: in inference mode."""
    import comfy.model_patcher
    import comfy.supported_models as supported

    settings = ARCHITECTURES[name]
    base = supported.SD15 if name == "sd15" else supported.SDXL
    config = base(settings)
    config.set_inference_dtype(dtype, None if dtype == torch.float32 else torch.float32)
    model = config.get_model({}, "", device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in model.diffusion_model.parameters():
        if parameter.ndim < 2:
            parameter.fill_(0.0)
        else:
            fan_in = math.prod(parameter.shape[1:])
            parameter.normal_(std=0.7 / math.sqrt(fan_in), generator=generator)
    for module in model.diffusion_model.modules():
        if "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None:
            module.weight.fill_(1.0)
    cpu = torch.device("cpu")
    pooled = {"pooled_output": torch.zeros(1, 1280)} if name == "sdxl" else {}

    def prompt(seed: int) -> Any:
        numbers = torch.Generator().manual_seed(seed)
        tokens = torch.randn(1, CONTEXT_TOKENS, settings["context_dim"], generator=numbers)
        return [[tokens, dict(pooled)]]

    return FullModel(
        model=comfy.model_patcher.ModelPatcher(model, cpu, cpu),
        positive=prompt(1),
        negative=prompt(2),
        parameters=sum(p.numel() for p in model.diffusion_model.parameters()),
    )
