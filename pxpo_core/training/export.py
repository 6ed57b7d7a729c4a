"""The finished LoRA as a file that other programs load."""

import logging
from typing import Any

import diffusers

from ..backends.diffusers.names import names_of
from ..lora_file import Architecture, LoRAInfo, save_lora
from ..run import RunHead
from .config import TrainConfig

logger = logging.getLogger(__name__)


def export_lora(config: TrainConfig, head: RunHead) -> None:
    """Write <export>/<run>_rNNNN.safetensors in kohya's format; raises LoRAFileError."""
    assert config.run.export is not None
    if head.policy is None or head.round == 0:
        return
    source = config.model.config or config.model.path
    unet = dict(diffusers.UNet2DConditionModel.load_config(str(source), subfolder="unet"))
    sampling, stem = config.sampling, f"{head.name}_r{head.round:04d}"
    info = LoRAInfo(
        stem,
        _architecture(unet),
        run=head.name,
        run_uuid=head.uuid,
        round=head.round,
        images=int(head.state.get("images_total", 0)) or None,
        resolution=f"{sampling.width}x{sampling.height}",
    )
    names = names_of({**_DEFAULTS, **unet})
    saved = save_lora(config.run.export, stem, head.policy, info, "kohya", names)
    logger.info("LoRA: %s (%.1f MB)", saved.path, saved.bytes / 1e6)


def _architecture(unet: dict[str, Any]) -> Architecture:
    if unet.get("addition_embed_type") == "text_time":
        return Architecture("stable-diffusion-xl-v1-base", "sdxl_base_v1-0", "1024x1024")
    if unet.get("cross_attention_dim") == 1024:
        return Architecture("stable-diffusion-v2", "sd_v2")
    return Architecture("stable-diffusion-v1", "sd_v1")


_DEFAULTS = {"transformer_layers_per_block": 1, "mid_block_type": "UNetMidBlock2DCrossAttn"}
"""What older configurations leave out."""
