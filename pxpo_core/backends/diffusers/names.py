"""A diffusers UNet under the module names that ComfyUI, LoRA files and runs use."""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from ...lora_file.unet_names import UNetNames, unet_names
from .loading import PipelineError


def names_of(config: Mapping[str, Any]) -> UNetNames:
    """Names for a UNet2DConditionModel's config; raises PipelineError for another layout."""
    widths, per_block = config["block_out_channels"], config["layers_per_block"]
    levels = len(widths)
    layers = [per_block] * levels if isinstance(per_block, int) else list(per_block)
    depths = config["transformer_layers_per_block"]
    depths = [depths] * levels if isinstance(depths, int) else list(depths)
    down = [
        depth if "CrossAttn" in kind else 0
        for depth, kind in zip(depths, config["down_block_types"], strict=True)
    ]
    up = [
        depth if "CrossAttn" in kind else 0
        for depth, kind in zip(reversed(depths), config["up_block_types"], strict=True)
    ]
    kinds = {*config["down_block_types"], *config["up_block_types"], config["mid_block_type"]}
    strange = kinds - _BLOCKS
    if strange or not all(isinstance(depth, int) for depth in depths):
        listed = ", ".join(sorted(map(str, strange))) or "transformer layers that differ in a block"
        raise PipelineError(f"This UNet has blocks that PXPO does not know: {listed}.")
    blocks_up = zip(up, reversed(layers), strict=True)
    outputs = [depth for depth, count in blocks_up for _ in range(count + 1)]
    names = unet_names(
        {
            "num_res_blocks": layers,
            "channel_mult": [width // widths[0] for width in widths],
            "transformer_depth": [d for d, n in zip(down, layers, strict=True) for _ in range(n)],
            "transformer_depth_output": outputs[::-1],
        }
    )
    assert names is not None  # every field is there
    return names


class NamedNetwork:
    """A diffusers UNet whose modules and tensors have their LDM (ComfyUI) names.

    Raises PipelineError when a layer with weights has none.
    """

    def __init__(self, unet: nn.Module, names: UNetNames) -> None:
        self.unet, self.names = unet, names
        self._modules: dict[str, nn.Module] = {}
        for name, module in unet.named_modules():
            if not module._parameters:
                continue
            ldm = names.ldm(name)
            if ldm is None or name.endswith(".base_layer"):
                raise PipelineError(
                    f"PXPO does not know this UNet's layer {name}. UNets of SD1.5, SD2 and SDXL "
                    "pipelines work; unload adapters (fuse_lora, unload_lora_weights) first."
                )
            self._modules[ldm] = module

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Every module with weights."""
        return iter(self._modules.items())

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors under their LDM names; not copies."""
        return {
            f"{name}.{part}": tensor.detach()
            for name, module in self._modules.items()
            for part, tensor in module._parameters.items()
            if tensor is not None
        }


_BLOCKS = {
    "DownBlock2D",
    "CrossAttnDownBlock2D",
    "UpBlock2D",
    "CrossAttnUpBlock2D",
    "UNetMidBlock2DCrossAttn",
}
