"""Operations and bytes of one step at any size, on a model without numbers in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pxpo_core.lora import ATTENTION, LoRAConfig, LoRALayers, new_policy

from .models import ARCHITECTURES, CONTEXT_TOKENS, SD15

ROWS = 2
"""One picture with classifier-free guidance: with and without the prompt."""


@dataclass(frozen=True)
class Counted:
    """Of one picture. memory: a `saved_memory.Measured`, in bytes."""

    forward_flop: int
    attention_flop: int
    training_flop: int
    memory: Any


class _Attention(torch.autograd.Function):
    """Attention that keeps what a fused kernel keeps: q, k, v, the result and one sum per row."""

    flop = 0

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        result = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, result, q.new_empty(q.shape[:-1]))
        _Attention.flop += 4 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.shape[3]
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, _, _ = ctx.saved_tensors
        # The scores once more, and a product for each of the three gradients and the scores'.
        _Attention.flop += 10 * q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.shape[3]
        return torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)


def _attend(_: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, **__: Any) -> Tensor:
    def split(x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], heads, -1).transpose(1, 2)

    result = _Attention.apply(split(q), split(k), split(v))
    return result.transpose(1, 2).reshape(q.shape)


def count(size: int, target_modules: str = ATTENTION) -> Counted:
    """One picture of size x size pixels through SD1.5 with a LoRA of rank 8, and its gradient."""
    from pxpo_core.backends.comfy.saved_memory import SavedBytes

    network = _unet("sd15")
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    config = LoRAConfig(target_modules=target_modules)
    layers = LoRALayers(new_policy(network, config), "meta")
    latent = torch.empty(ROWS, 4, size // 8, size // 8, device="meta")
    prompt = torch.empty(ROWS, CONTEXT_TOKENS, SD15["context_dim"], device="meta")
    options = {"optimized_attention_override": _attend}

    def forward() -> Tensor:
        times = torch.empty(ROWS, device="meta")
        return network(latent, times, prompt, transformer_options=options)

    counter = SavedBytes(network, layers.parameters.values())
    with layers.attached(network):
        with counter.counting():
            forward()
        forward_flop, forward_attention = _flop(lambda: _without_gradient(forward))
        training_flop, training_attention = _flop(lambda: forward().sum().backward())
    return Counted(
        forward_flop=forward_flop + forward_attention,
        attention_flop=forward_attention,
        training_flop=training_flop + training_attention,
        memory=counter.measured,
    )


def lora_parameters(name: str, target_modules: str) -> int:
    """Numbers in a LoRA of rank 8 of sd15 or sdxl."""
    with torch.device("meta"):
        policy = new_policy(_unet(name), LoRAConfig(target_modules=target_modules))
    return sum(tensor.numel() for tensor in policy.tensors.values())


def _unet(name: str) -> Any:
    """The network on torch's meta device: shapes, and nothing in them."""
    import comfy.ldm.modules.diffusionmodules.openaimodel as openaimodel
    import comfy.ops

    with torch.device("meta"):
        return openaimodel.UNetModel(
            **ARCHITECTURES[name],
            device="meta",
            dtype=torch.float32,
            operations=comfy.ops.disable_weight_init,
        )


def _without_gradient(forward: Any) -> None:
    with torch.no_grad():
        forward()


def _flop(work: Any) -> tuple[int, int]:
    """Operations of layers as torch counts them, and those of attention."""
    _Attention.flop = 0
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops(), _Attention.flop
