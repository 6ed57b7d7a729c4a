"""Module names of the standard diffusion UNet: as LDM (and ComfyUI) and as diffusers call them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FIELDS = ("num_res_blocks", "channel_mult", "transformer_depth", "transformer_depth_output")
_TOP = {
    "input_blocks.0.0": "conv_in",
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb.0.0": "add_embedding.linear_1",
    "label_emb.0.2": "add_embedding.linear_2",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}


@dataclass(frozen=True)
class UNetNames:
    """blocks: LDM name -> diffusers name of every residual, attention and resampling block."""

    blocks: Mapping[str, str]

    def diffusers(self, module: str) -> str | None:
        """diffusers' name of an LDM module, None for one the standard UNet does not have."""
        if module in _TOP:
            return _TOP[module]
        parts = module.split(".")
        for length in (4, 3, 2):
            block, inner = ".".join(parts[:length]), ".".join(parts[length:])
            if block not in self.blocks:
                continue
            if ".resnets." in self.blocks[block]:
                inner = _RESNET.get(inner, "")
                return f"{self.blocks[block]}.{inner}" if inner else None
            return f"{self.blocks[block]}.{inner}" if inner else self.blocks[block]
        return None

    def ldm(self, module: str) -> str | None:
        """The LDM name of a diffusers module, None for one that has none."""
        for ldm, diffusers in _TOP.items():
            if module == diffusers:
                return ldm
        for block, diffusers in self.blocks.items():
            if module != diffusers and not module.startswith(f"{diffusers}."):
                continue
            inner = module[len(diffusers) + 1 :]
            if ".resnets." in diffusers:
                inner = next((ldm for ldm, name in _RESNET.items() if name == inner), "")
                return f"{block}.{inner}" if inner else None
            return f"{block}.{inner}" if inner else block
        return None


def unet_names(config: Mapping[str, Any]) -> UNetNames | None:
    """Names for a ComfyUI unet_config; None when it does not describe a standard image UNet."""
    if any(field not in config for field in _FIELDS) or config.get("use_temporal_attention"):
        return None
    res_blocks, levels = config["num_res_blocks"], len(config["channel_mult"])
    blocks = {
        "middle_block.0": "mid_block.resnets.0",
        "middle_block.1": "mid_block.attentions.0",
        "middle_block.2": "mid_block.resnets.1",
    }
    depths, n = iter(config["transformer_depth"]), 1
    for level in range(levels):
        for i in range(res_blocks[level]):
            blocks[f"input_blocks.{n}.0"] = f"down_blocks.{level}.resnets.{i}"
            if next(depths) > 0:
                blocks[f"input_blocks.{n}.1"] = f"down_blocks.{level}.attentions.{i}"
            n += 1
        if level < levels - 1:
            blocks[f"input_blocks.{n}.0.op"] = f"down_blocks.{level}.downsamplers.0.conv"
            n += 1
    depths, n = iter(reversed(config["transformer_depth_output"])), 0
    for level in range(levels):
        last = res_blocks[levels - 1 - level]
        for i in range(last + 1):
            blocks[f"output_blocks.{n}.0"] = f"up_blocks.{level}.resnets.{i}"
            attention = next(depths) > 0
            if attention:
                blocks[f"output_blocks.{n}.1"] = f"up_blocks.{level}.attentions.{i}"
            if i == last and level < levels - 1:
                resize = f"output_blocks.{n}.{2 if attention else 1}.conv"
                blocks[resize] = f"up_blocks.{level}.upsamplers.0.conv"
            n += 1
    return UNetNames(blocks)
