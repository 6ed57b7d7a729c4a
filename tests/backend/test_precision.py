"""Base weights of every precision: replayed exactly, trained with the right gradient, unchanged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from graph_cases import Case, random
from replayed import Replayed, learned, rollout_of
from torch import nn

from pxpo_core.lora import LoRAConfig, layer_shapes, new_policy
from pxpo_core.update import UpdateConfig

FP8 = torch.float8_e4m3fn
UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32,
    "num_res_blocks": [1, 1], "channel_mult": (1, 2), "num_heads": 4,
    "use_spatial_transformer": True, "transformer_depth": [0, 1],
    "transformer_depth_output": [0, 0, 1, 1], "transformer_depth_middle": 1, "context_dim": 16,
    "use_linear_in_transformer": True, "adm_in_channels": None, "use_temporal_attention": False,
    "legacy": False,
}  # fmt: skip


def model_of(weights: torch.dtype, computed: torch.dtype | None, change: Any = None) -> Any:
    """A tiny SD1.5 whose weights are random. change: what is done to its configuration."""
    import comfy.model_patcher
    import comfy.supported_models

    class Config(comfy.supported_models.SD15):
        unet_config = UNET
        unet_extra_config = {"num_heads": 4, "num_head_channels": -1}  # noqa: RUF012

    config = Config(UNET)
    config.set_inference_dtype(weights, computed)
    if change is not None:
        change(config)
    model = config.get_model({}, "", device="cpu")
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, cpu, cpu)


def values(model: Any) -> dict[str, torch.Tensor]:
    """The same random weights whatever they are stored in."""
    shapes = {
        f"{name}.{key}": shape
        for name, module in model.model.diffusion_model.named_modules()
        for key, shape in _shapes(module).items()
    }
    return {n: 0.05 * random(*shape, seed=i) for i, (n, shape) in enumerate(sorted(shapes.items()))}


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    shapes = {key: tuple(p.shape) for key, p in module._parameters.items() if p is not None}
    if hasattr(module, "out_features"):
        shapes["weight"] = (module.out_features, module.in_features)
    return shapes


def stored_as(weights: torch.dtype, computed: torch.dtype | None) -> Callable[[], Any]:
    def build() -> Any:
        model = model_of(weights, computed)
        for name, value in values(model).items():
            model.model.diffusion_model.get_parameter(name).copy_(value)
        return model

    return build


def quantised() -> Any:
    """The host's own quantised layers: fp8 with a scale for every matrix."""

    def mixed(config: Any) -> None:
        every = {layer: {"format": "float8_e4m3fn"} for layer in layers}
        config.layer_quant_config = every  # ComfyUI 0.3.75
        config.quant_config = every  # newer ones

    plain = model_of(torch.float32, None)
    layers = [
        name
        for name, module in plain.model.diffusion_model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    model = model_of(torch.float32, torch.float32, mixed)
    state: dict[str, torch.Tensor] = {}
    mark = torch.tensor(list(json.dumps({"format": "float8_e4m3fn"}).encode()), dtype=torch.uint8)
    for name, value in values(plain).items():
        layer = name.removesuffix(".weight")
        if name.endswith(".weight") and layer in layers:
            scale = value.abs().max() / 448.0
            state[name], state[f"{layer}.weight_scale"] = (value / scale).to(FP8), scale
            state[f"{layer}.comfy_quant"] = mark.clone()
        else:
            state[name] = value
    model.model.diffusion_model.load_state_dict(state, strict=False)
    return model


class Packed(nn.Linear):
    """A layer of another pack (GGUF): whole numbers and scales, unpacked for every call."""

    def __init__(self, layer: nn.Linear, value: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__(layer.in_features, layer.out_features, bias is not None)
        scale = value.abs().amax(dim=1, keepdim=True) / 127.0
        self.register_buffer("scale", scale)
        packed = (value / scale).round().to(torch.int8)
        self.weight = nn.Parameter(packed, requires_grad=False)
        if bias is not None:
            self.bias.copy_(bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self.weight.to(x.dtype) * self.scale, self.bias)


def packed() -> Any:
    model = stored_as(torch.float32, None)()
    network = model.model.diffusion_model
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Linear):
            parent = network.get_submodule(name.rpartition(".")[0])
            own = name.rpartition(".")[2]
            setattr(parent, own, Packed(module, module.weight, module.bias))
    return model


FORMATS: dict[str, Callable[[], Any]] = {
    "bfloat16": stored_as(torch.bfloat16, torch.float32),
    "float16": stored_as(torch.float16, torch.float32),
    "float8": stored_as(FP8, torch.float32),
    "quantised": quantised,
    "packed": packed,
}


def prepared(model: Any) -> tuple[Case, Any]:
    positive, negative = ([[random(1, 7, 16, seed=seed), {}]] for seed in (1, 2))
    graph = Case(model, positive, negative)
    config = LoRAConfig(r=4, lora_alpha=4.0, target_modules="all layers")
    return graph, learned(new_policy(model.model.diffusion_model, config))


@pytest.mark.parametrize("name", FORMATS)
def test_weights_of_every_precision_are_trained_on(inference_mode: None, name: str) -> None:
    from pxpo_core.backends.comfy.train import train_round
    from pxpo_core.credit import advantage_map

    model = FORMATS[name]()
    network = model.model.diffusion_model
    graph, policy = prepared(model)
    assert len(policy.layers) == len(layer_shapes(network)) > 60
    replayed = Replayed(rollout_of(graph, policy))
    before = [(type(p.data), p.dtype, p.requires_grad) for p in network.parameters()]
    bits = {n: t.clone() for n, t in network.state_dict().items()}
    replayed.ratio_is_one()
    replayed.gradient_is_right()
    advantage = advantage_map(random(3, 64, 64), (8, 8))
    config = UpdateConfig(train_steps=1, micro_batch=2)
    result = train_round([replayed.rollout], [advantage], policy, {}, config, seed=1)
    assert all(t.dtype == torch.float32 for t in result.policy.tensors.values())
    assert result.policy.digest != policy.digest
    assert [(type(p.data), p.dtype, p.requires_grad) for p in network.parameters()] == before
    after = network.state_dict()
    for key, value in bits.items():
        a, b = (t if t.ndim else t[None] for t in (after[key], value))
        assert torch.equal(a.view(torch.uint8), b.view(torch.uint8)), key


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_replays_exactly_and_its_gradient_points_the_same_way(
    inference_mode: None, dtype: torch.dtype
) -> None:
    """Computed in half precision; the LoRA and the loss stay in float32."""
    half = Replayed(rollout_of(*prepared(stored_as(dtype, None)())))
    half.ratio_is_one()
    full = Replayed(rollout_of(*prepared(stored_as(torch.float32, None)())))
    ours, theirs = half.gradient(), full.gradient()
    a = torch.cat([ours[name].flatten() for name in theirs])
    b = torch.cat([theirs[name].flatten() for name in theirs])
    assert float(torch.cosine_similarity(a, b, dim=0)) > 0.98


def test_float16_learns_as_float32_where_gradients_are_small(inference_mode: None) -> None:
    """A latent value has a smaller share of the loss than float16 can hold, so it is scaled.

    Weak advantages stand for the many values of larger pictures. AdamW follows signs: the weights
    have to go the same way.
    """
    from pxpo_core.backends.comfy.train import train_round
    from pxpo_core.credit import advantage_map
    from pxpo_core.rollout import finished_pictures

    advantage = advantage_map(random(3, 64, 64), (16, 16))
    advantage = replace(advantage, values=advantage.values / 64.0)
    config = UpdateConfig(train_steps=1, steps_per_rollout=1, anchor=0.0)
    moved = {}
    for dtype in (torch.float16, torch.float32):
        graph, policy = prepared(stored_as(dtype, None)())
        rollout = rollout_of(replace(graph, latent=torch.zeros(3, 4, 16, 16)), policy)
        rollout = replace(rollout, trajectory=finished_pictures(rollout.trajectory, 0, 0, range(3)))
        result = train_round([rollout], [advantage], policy, {}, config, seed=1)
        moved[dtype] = torch.cat(
            [(result.policy.tensors[n] - t).flatten() for n, t in policy.tensors.items()]
        )
    half, full = moved.values()
    assert float((half.sign() == full.sign()).float().mean()) > 0.95
