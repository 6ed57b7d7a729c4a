"""What other nodes put into a graph, as MODELs, prompts and latents for a tiny random model."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch

BATCH = 3


@dataclass(frozen=True)
class Case:
    """One graph: what arrives at the DDIM LogProb Sampler."""

    model: Any
    positive: Any
    negative: Any
    cfg: float = 3.0
    noise_mask: torch.Tensor | None = None
    latent: torch.Tensor = field(default_factory=lambda: torch.zeros(BATCH, 4, 8, 8))


CASES: dict[str, Callable[[Case], Case]] = {}
"""Each takes the plain graph and changes something in it."""


def case(function: Callable[[Case], Case]) -> Callable[[Case], Case]:
    CASES[function.__name__] = function
    return function


def random(*shape: int, seed: int = 7) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def half_mask(*shape: int) -> torch.Tensor:
    mask = torch.zeros(shape)
    mask[..., : shape[-1] // 2] = 1.0
    return mask


def node(module: str, name: str, model: Any, *args: Any, **kwargs: Any) -> Any:
    """The MODEL a core node makes."""
    made = getattr(importlib.import_module(f"comfy_extras.{module}"), name)
    if hasattr(made, "execute"):
        result = made.execute(model, *args, **kwargs)
        return (result if isinstance(result, tuple) else result.args)[0]
    return made().patch(model, *args, **kwargs)[0]


def with_values(conditioning: Any, **values: Any) -> Any:
    return [[tokens, {**options, **values}] for tokens, options in conditioning]


def lora(model: Any, seed: int = 5, layers: str = "attn") -> dict[str, torch.Tensor]:
    state = {}
    for name, module in model.model.diffusion_model.named_modules():
        if isinstance(module, torch.nn.Linear) and layers in name:
            up, down = module.out_features, module.in_features
            state[f"diffusion_model.{name}.lora_up.weight"] = 0.1 * random(up, 2, seed=seed)
            state[f"diffusion_model.{name}.lora_down.weight"] = random(2, down, seed=seed + 1)
    return state


def controlnet(model: Any, hints: int = 1, seed: int = 4) -> Any:
    import comfy.cldm.cldm
    import comfy.controlnet

    settings = dict(model.model.model_config.unet_config)
    settings.pop("out_channels")
    network = comfy.cldm.cldm.ControlNet(**settings, hint_channels=3)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.normal_(std=0.05, generator=generator)
    control = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
    images = torch.rand(hints, 3, 64, 64, generator=generator)
    return control.set_cond_hint(images, 1.0, (0.0, 1.0))


def controlled(graph: Case, control: Any) -> Case:
    return replace(
        graph,
        positive=with_values(graph.positive, control=control),
        negative=with_values(graph.negative, control=control),
    )


@case
def plain(graph: Case) -> Case:
    return graph


# Guidance and prompts


@case
def cfg_1(graph: Case) -> Case:
    return replace(graph, cfg=1.0)


@case
def no_negative_prompt(graph: Case) -> Case:
    return replace(graph, negative=[])


@case
def prompts_per_picture(graph: Case) -> Case:
    return replace(graph, positive=[[random(BATCH, 7, 16), {}]])


@case
def fewer_prompts_than_pictures(graph: Case) -> Case:
    return replace(graph, positive=[[random(2, 7, 16), {}]])


@case
def prompts_of_other_lengths(graph: Case) -> Case:
    return replace(
        graph, positive=[[random(1, 14, 16), {}]], negative=[[random(1, 40, 16, seed=8), {}]]
    )


@case
def combined_prompts(graph: Case) -> Case:
    return replace(graph, positive=[*graph.positive, [random(1, 9, 16), {"strength": 0.5}]])


@case
def timestep_ranges(graph: Case) -> Case:
    early = with_values(graph.positive, start_percent=0.0, end_percent=0.5)
    late = with_values([[random(1, 7, 16), {}]], start_percent=0.5, end_percent=1.0)
    return replace(graph, positive=early + late)


# Regions


@case
def areas(graph: Case) -> Case:
    left = with_values([[random(1, 7, 16), {}]], area=(8, 4, 0, 0), strength=0.8)
    share = with_values(
        [[random(1, 7, 16, seed=9), {}]], area=("percentage", 0.5, 1.0, 0.5, 0.0), strength=1.0
    )
    return replace(graph, positive=[*graph.positive, *left, *share])


@case
def masks(graph: Case) -> Case:
    masked = with_values(
        [[random(1, 7, 16), {}]], mask=half_mask(1, 64, 64), set_area_to_bounds=False,
        mask_strength=1.0,
    )  # fmt: skip
    return replace(graph, positive=[*graph.positive, *masked])


@case
def a_mask_per_picture(graph: Case) -> Case:
    mask = torch.stack([half_mask(64, 64), half_mask(64, 64).T, 1.0 - half_mask(64, 64)])
    masked = with_values(
        [[random(1, 7, 16), {}]], mask=mask, set_area_to_bounds=False, mask_strength=1.0
    )
    return replace(graph, positive=[*graph.positive, *masked])


@case
def mask_bounds(graph: Case) -> Case:
    masked = with_values(
        [[random(1, 7, 16), {}]], mask=half_mask(1, 128, 128), set_area_to_bounds=True,
        mask_strength=1.0,
    )  # fmt: skip
    return replace(graph, positive=[*graph.positive, *masked])


@case
def default_conditioning(graph: Case) -> Case:
    masked = with_values(
        graph.positive, mask=half_mask(1, 64, 64), set_area_to_bounds=False, mask_strength=1.0
    )
    rest = with_values([[random(1, 7, 16), {}]], default=True)
    return replace(graph, positive=masked + rest)


# Inpainting


@case
def noise_mask(graph: Case) -> Case:
    return replace(graph, noise_mask=half_mask(1, 64, 64), latent=random(BATCH, 4, 8, 8))


@case
def noise_mask_per_picture(graph: Case) -> Case:
    mask = torch.stack([half_mask(64, 64), half_mask(64, 64).T, 1.0 - half_mask(64, 64)])
    return replace(graph, noise_mask=mask, latent=random(BATCH, 4, 8, 8))


@case
def differential_diffusion(graph: Case) -> Case:
    ramp = torch.linspace(0.0, 1.0, 64).expand(1, 64, 64)
    model = node("nodes_differential_diffusion", "DifferentialDiffusion", graph.model)
    return replace(graph, model=model, noise_mask=ramp.clone(), latent=random(BATCH, 4, 8, 8))


# ControlNets


@case
def control_net(graph: Case) -> Case:
    return controlled(graph, controlnet(graph.model))


@case
def control_picture_per_picture(graph: Case) -> Case:
    return controlled(graph, controlnet(graph.model, hints=BATCH))


@case
def two_control_nets(graph: Case) -> Case:
    first = controlnet(graph.model, hints=2)
    second = controlnet(graph.model, seed=6)
    second.strength, second.timestep_percent_range = 0.6, (0.3, 0.9)
    return controlled(graph, second.set_previous_controlnet(first))


# Other LoRAs


@case
def another_lora(graph: Case) -> Case:
    import comfy.sd

    model, _ = comfy.sd.load_lora_for_models(graph.model, None, lora(graph.model), 0.8, 0.0)
    return replace(graph, model=model)


@case
def lora_of_one_prompt(graph: Case) -> Case:
    import comfy.hooks

    hooks = comfy.hooks.create_hook_lora(lora(graph.model), 1.0, 0.0)
    return replace(graph, positive=comfy.hooks.set_hooks_for_conditioning(graph.positive, hooks))


@case
def loras_of_two_prompts_with_keyframes(graph: Case) -> Case:
    import comfy.hooks

    def hooks(seed: int, late: float) -> Any:
        group = comfy.hooks.create_hook_lora(lora(graph.model, seed), 1.0, 0.0)
        keyframes = comfy.hooks.HookKeyframeGroup()
        keyframes.add(comfy.hooks.HookKeyframe(strength=1.0, start_percent=0.0))
        keyframes.add(comfy.hooks.HookKeyframe(strength=late, start_percent=0.5))
        group.set_keyframes_on_hooks(keyframes)
        return group

    return replace(
        graph,
        positive=comfy.hooks.set_hooks_for_conditioning(graph.positive, hooks(5, 0.3)),
        negative=comfy.hooks.set_hooks_for_conditioning(graph.negative, hooks(15, 0.6)),
    )


# Nodes that change the model


NODES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "FreeU": ("nodes_freelunch", "FreeU", {"b1": 1.1, "b2": 1.2, "s1": 0.9, "s2": 0.2}),
    "FreeU_V2": ("nodes_freelunch", "FreeU_V2", {"b1": 1.3, "b2": 1.4, "s1": 0.9, "s2": 0.2}),
    "PerturbedAttentionGuidance": ("nodes_pag", "PerturbedAttentionGuidance", {"scale": 3.0}),
    "SelfAttentionGuidance": (
        "nodes_sag", "SelfAttentionGuidance", {"scale": 0.5, "blur_sigma": 2.0},
    ),
    "RescaleCFG": ("nodes_model_advanced", "RescaleCFG", {"multiplier": 0.7}),
    "CFGZeroStar": ("nodes_cfg", "CFGZeroStar", {}),
    "CFGNorm": ("nodes_cfg", "CFGNorm", {"strength": 1.0}),
    "TCFG": ("nodes_tcfg", "TCFG", {}),
    "Mahiro": ("nodes_mahiro", "Mahiro", {}),
    "FreSca": ("nodes_fresca", "FreSca", {"scale_low": 1.0, "scale_high": 1.3, "freq_cutoff": 2}),
    "EpsilonScaling": ("nodes_eps", "EpsilonScaling", {"scaling_factor": 1.01}),
    "APG": ("nodes_apg", "APG", {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.0}),
    "PatchModelAddDownscale": (
        "nodes_model_downscale", "PatchModelAddDownscale",
        {
            "block_number": 1, "downscale_factor": 2.0, "start_percent": 0.0, "end_percent": 0.5,
            "downscale_after_skip": True, "downscale_method": "bicubic",
            "upscale_method": "bicubic",
        },
    ),
    "UNetSelfAttentionMultiply": (
        "nodes_attention_multiply", "UNetSelfAttentionMultiply",
        {"q": 1.1, "k": 0.9, "v": 1.2, "out": 1.0},
    ),
}  # fmt: skip


def _of_node(name: str) -> Callable[[Case], Case]:
    module, class_name, settings = NODES[name]
    return lambda graph: replace(graph, model=node(module, class_name, graph.model, **settings))


CASES.update({name: _of_node(name) for name in NODES})


@case
def model_sampling_patch(graph: Case) -> Case:
    """v prediction and a zero-terminal schedule, as ModelSamplingDiscrete sets them."""
    module = importlib.import_module("comfy_extras.nodes_model_advanced")
    patched = module.ModelSamplingDiscrete().patch(graph.model, "v_prediction", True)
    return replace(graph, model=patched[0])


class Adapter(torch.nn.Module):
    """An IP-Adapter: pictures' tokens through projections of its own, added to cross-attention."""

    def __init__(self) -> None:
        super().__init__()
        self.project = torch.nn.ModuleDict()
        self.tokens = random(1, 4, 16)

    def __call__(self, q: Any, k: Any, v: Any, options: Any) -> Any:
        from comfy.ldm.modules.attention import optimized_attention

        width = str(q.shape[-1])
        tokens = self.tokens.expand(len(q), -1, -1)
        image = self.project[width](tokens)
        text = optimized_attention(q, k, v, options["n_heads"])
        return text + 0.7 * optimized_attention(q, image, image, options["n_heads"])


@case
def ip_adapter(graph: Case) -> Case:
    adapter = Adapter()
    for width in (32, 64):
        adapter.project[str(width)] = torch.nn.Linear(16, width)
    model = graph.model.clone()
    for block, number in (("input", 1), ("middle", 0), ("output", 1)):
        model.set_model_attn2_replace(adapter, block, number)
    return replace(graph, model=model)


@case
def attention_and_block_patches(graph: Case) -> Case:
    model = graph.model.clone()
    strength = random(1, 1, 1).abs()
    model.set_model_attn1_patch(lambda q, k, v, options: (q * strength, k, v))
    model.set_model_input_block_patch(lambda h, options: h * (1.0 + 0.1 * options["block"][1]))
    model.set_model_unet_function_wrapper(
        lambda call, args: call(args["input"], args["timestep"], **args["c"]) * 1.05
    )
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * 0.98)
    return replace(graph, model=model)


@case
def replaced_layer(graph: Case) -> Case:
    """A layer of the network exchanged for another node's own."""
    model = graph.model.clone()
    name = "diffusion_model.time_embed.2"
    layer = model.get_model_object(name)
    other = torch.nn.Linear(layer.in_features, layer.out_features)
    model.add_object_patch(name, other)
    return replace(graph, model=model)
