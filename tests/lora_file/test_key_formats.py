"""LoRA files of other programs: every way of naming the tensors, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import small_models
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pxpo_dev.comfyui import ComfyUI
from safetensors.torch import load_file, save_file

from pxpo_core.lora import LoRAConfig, Policy
from pxpo_core.lora_file import (
    LoRAFileError,
    Place,
    policy_from_tensors,
    read_lora,
    unet_names,
)

SHAPES = {
    "input_blocks.1.1.transformer_blocks.0.attn1.to_q": (8, 8),
    "input_blocks.1.1.transformer_blocks.0.attn1.to_out.0": (8, 8),
    "input_blocks.1.1.proj_in": (8, 8, 1, 1),
    "input_blocks.1.0.in_layers.2": (8, 4, 3, 3),
}
NAMES = unet_names(
    {
        "num_res_blocks": [1],
        "channel_mult": [1],
        "transformer_depth": [1],
        "transformer_depth_output": [1, 1],
    }
)
Q = "input_blocks.1.1.transformer_blocks.0.attn1.to_q"


def diffusers_name(layer: str) -> str:
    assert NAMES is not None
    return NAMES.diffusers(layer) or layer


def pairs(rank: int = 3) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return {
        layer: (
            torch.randn(rank, *rest, generator=generator),
            torch.randn(out, rank, *[1] * len(rest[1:]), generator=generator),
        )
        for layer, (out, *rest) in SHAPES.items()
    }


def change(policy: Policy, layer: str) -> torch.Tensor:
    """What the LoRA adds to a layer's weight."""
    up, down = (policy.tensors[f"{layer}.lora_{part}.weight"] for part in ("up", "down"))
    return policy.config.scaling * up.flatten(1) @ down.flatten(1)


def processor(layer: str) -> str:
    """The attention processors' names of older diffusers; other layers as in its newer files."""
    name = diffusers_name(layer)
    return name.replace(".to_", ".processor.to_").removesuffix(".0") if ".to_" in name else name


SPELLINGS: dict[str, tuple[Callable[[str], str], str, str]] = {
    "kohya": (lambda n: f"lora_unet_{diffusers_name(n).replace('.', '_')}", ".lora_down.weight",
              ".lora_up.weight"),
    "kohya, LDM names": (lambda n: f"lora_unet_{n.replace('.', '_')}", ".lora_down.weight",
                         ".lora_up.weight"),
    "lycoris": (lambda n: f"lycoris_{diffusers_name(n).replace('.', '_')}", ".lora_down.weight",
                ".lora_up.weight"),
    "the host's": (lambda n: f"diffusion_model.{n}", ".lora_down.weight", ".lora_up.weight"),
    "the host's, PEFT": (lambda n: f"diffusion_model.{n}", ".lora_A.weight", ".lora_B.weight"),
    "checkpoint": (lambda n: f"model.diffusion_model.{n}", ".lora_down.weight", ".lora_up.weight"),
    "diffusers": (lambda n: f"unet.{diffusers_name(n)}", ".lora_A.weight", ".lora_B.weight"),
    "diffusers, UNet only": (diffusers_name, ".lora_A.weight", ".lora_B.weight"),
    "diffusers 0.2": (lambda n: f"unet.{diffusers_name(n)}", ".lora.down.weight",
                      ".lora.up.weight"),
    "attention processors": (lambda n: f"unet.{processor(n)}", "_lora.down.weight",
                             "_lora.up.weight"),
    "transformers": (lambda n: f"unet.{diffusers_name(n)}", ".lora_linear_layer.down.weight",
                     ".lora_linear_layer.up.weight"),
    "PEFT": (lambda n: f"base_model.model.{diffusers_name(n)}", ".lora_A.weight", ".lora_B.weight"),
    "PEFT with an adapter's name": (lambda n: f"base_model.model.{diffusers_name(n)}",
                                    ".lora_A.default.weight", ".lora_B.default.weight"),
}  # fmt: skip


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_every_way_of_naming(tmp_path: Path, spelling: str, dtype: torch.dtype) -> None:
    name, down, up = SPELLINGS[spelling]
    tensors, wanted = {}, {}
    for layer, (a, b) in pairs().items():
        a, b = a.to(dtype), b.to(dtype)
        tensors[name(layer) + down], tensors[name(layer) + up] = a, b
        wanted[layer] = b.float().flatten(1) @ a.float().flatten(1)
    save_file(tensors, tmp_path / "lora.safetensors")
    before = (tmp_path / "lora.safetensors").read_bytes()
    policy = read_lora(tmp_path / "lora.safetensors", SHAPES, NAMES, tmp_path).policy
    assert set(policy.layers) == set(SHAPES)
    for layer, delta in wanted.items():
        torch.testing.assert_close(change(policy, layer), delta)
    assert all(t.dtype == torch.float32 for t in policy.tensors.values())
    assert (tmp_path / "lora.safetensors").read_bytes() == before


def test_a_1x1_convolution_is_a_matrix_to_some_programs() -> None:
    layer = "input_blocks.1.1.proj_in"
    down, up = pairs()[layer]
    flat = {"lora_down.weight": down.flatten(1), "lora_up.weight": up.flatten(1)}
    read = policy_from_tensors({f"diffusion_model.{layer}.{k}": v for k, v in flat.items()},
                               SHAPES, NAMES)  # fmt: skip
    assert torch.equal(read.tensors[f"{layer}.lora_down.weight"], down)
    down, up = pairs()[Q]
    deep = {"lora_down.weight": down[..., None, None], "lora_up.weight": up[..., None, None]}
    read = policy_from_tensors({f"diffusion_model.{Q}.{k}": v for k, v in deep.items()},
                               SHAPES, NAMES)  # fmt: skip
    assert torch.equal(read.tensors[f"{Q}.lora_up.weight"], up)


OTHER_METHODS = {
    "DoRA": [".dora_scale", ".lora_magnitude_vector"],
    "LoHa": [".hada_w1_a", ".hada_w2_b", ".hada_t1"],
    "LoKr": [".lokr_w1", ".lokr_w2_a", ".lokr_t2"],
    "OFT": [".oft_blocks", ".oft_diag"],
    "GLoRA": [".a1.weight"],
    "Tucker": [".lora_mid.weight"],
    "biases": [".lora_B.bias", ".lora_up.bias"],
    "full weight difference": [".diff", ".diff_b", ".w_norm"],
}


@pytest.mark.parametrize(
    ("method", "ending"),
    [(m, ending) for m, endings in OTHER_METHODS.items() for ending in endings],
)
@pytest.mark.parametrize("alone", [True, False])
def test_other_methods_are_refused_by_name(method: str, ending: str, alone: bool) -> None:
    tensors = {f"lora_unet_{diffusers_name(Q).replace('.', '_')}{ending}": torch.ones(8, 3)}
    if not alone:
        down, up = pairs()[Q]
        tensors |= {f"diffusion_model.{Q}.lora_down.weight": down,
                    f"diffusion_model.{Q}.lora_up.weight": up}  # fmt: skip
    with pytest.raises(LoRAFileError, match=rf"{method}.*Load LoRA"):
        policy_from_tensors(tensors, SHAPES, NAMES)


def test_the_text_encoders_part_is_left_out_and_counted(tmp_path: Path) -> None:
    down, up = pairs()[Q]
    text = {"lora_te1_text_q.lora_down.weight": down + 1, "lora_te2_x.lora_up.weight": up + 1}
    unet = {
        f"diffusion_model.{Q}.lora_down.weight": down,
        f"diffusion_model.{Q}.lora_up.weight": up,
    }
    save_file(text | unet, tmp_path / "both.safetensors")
    loaded = read_lora(tmp_path / "both.safetensors", SHAPES, NAMES)
    assert (loaded.policy.layers, loaded.text_encoder) == ((Q,), 2)
    save_file(text, tmp_path / "text.safetensors")
    with pytest.raises(LoRAFileError, match=r"text encoder.*Load LoRA"):
        read_lora(tmp_path / "text.safetensors", SHAPES, NAMES)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ({"unet.r": 3, "unet.lora_alpha": 6}, 2.0),
        ({"unet.lora_alpha": 6, "unet.use_rslora": True}, 6 / 3**0.5),
        ({"unet.lora_alpha": 6, "unet.alpha_pattern": {diffusers_name(Q): 3}}, 1.0),
        ({"text_encoder.lora_alpha": 6}, 1.0),
        ({"unet.lora_alpha": None}, "no number"),
        ({"unet.lora_alpha": float("inf")}, "lora_alpha inf"),
        ({"unet.lora_alpha": -1}, "lora_alpha -1"),
        ({"unet.lora_alpha": 10**400}, "lora_alpha 1000"),
        ({"unet.lora_alpha": 1, "unet.use_dora": True}, "DoRA"),
        ([], 1.0),
        ("{", 1.0),
    ],
)
def test_an_alpha_in_the_metadata(values: Any, scale: float | str) -> None:
    down, up = pairs()[Q]
    tensors = {f"unet.{diffusers_name(Q)}.lora_A.weight": down,
               f"unet.{diffusers_name(Q)}.lora_B.weight": up}  # fmt: skip
    text = values if isinstance(values, str) else json.dumps(values)
    metadata = {"lora_adapter_metadata": text}
    if isinstance(scale, str):
        with pytest.raises(LoRAFileError, match=scale):
            policy_from_tensors(tensors, SHAPES, NAMES, metadata)
        return
    policy = policy_from_tensors(tensors, SHAPES, NAMES, metadata)
    torch.testing.assert_close(change(policy, Q), scale * up @ down)


any_json = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(
            ["unet.lora_alpha", "unet.alpha_pattern", "unet.use_rslora", "transformer.lora_alpha"]
        ),
        any_json,
    )
)
@settings(max_examples=100, deadline=None)
def test_any_metadata_gives_an_error_or_finite_weights(values: dict[str, Any]) -> None:
    down, up = pairs()[Q]
    name = f"unet.{diffusers_name(Q)}"
    tensors = {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
    metadata = {"lora_adapter_metadata": json.dumps(values)}
    with suppress(LoRAFileError):
        policy = policy_from_tensors(tensors, SHAPES, NAMES, metadata)
        assert bool(torch.isfinite(change(policy, Q)).all())


def test_three_layers_of_a_file_are_one_of_the_model() -> None:
    """q, k and v, each with a rank and an alpha of its own, on their rows of a fused layer."""
    generator = torch.Generator().manual_seed(1)
    also = {name: Place("qkv", 4 * i, 4) for i, name in enumerate(("q", "k", "v"))}
    tensors, rows = {}, []
    for rank, name in zip((1, 2, 3), "qkv", strict=True):
        down, up = (torch.randn(s, generator=generator) for s in ((rank, 5), (4, rank)))
        tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        rows.append(up @ down)
    tensors["v.alpha"] = torch.tensor(1.5)
    rows[2] = rows[2] * 0.5
    policy = policy_from_tensors(tensors, {"qkv": (12, 5)}, None, also=also)
    assert policy.config == LoRAConfig(6, 6.0, "all layers")
    torch.testing.assert_close(change(policy, "qkv"), torch.cat(rows))
    both = {**tensors, "diffusion_model.qkv.lora_A.weight": torch.ones(1, 5),
            "diffusion_model.qkv.lora_B.weight": torch.ones(12, 1)}  # fmt: skip
    with pytest.raises(LoRAFileError, match="twice"):
        policy_from_tensors(both, {"qkv": (12, 5)}, None, also=also)
    with pytest.raises(LoRAFileError, match="another architecture"):
        policy_from_tensors(tensors, {"qkv": (9, 5)}, None, also=also)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_diffusers_names_of_other_architectures(
    comfyui: ComfyUI, tmp_path: Path, name: str
) -> None:
    """Every name with a dot that the host's loader knows: the same change of every weight."""
    import comfy.lora
    import comfy.sd
    import comfy.utils

    from pxpo_core.backends.comfy.lora_files import read_model_lora

    model = small_models.build(name).model
    weights = model.model.state_dict()
    generator = torch.Generator().manual_seed(2)
    tensors: dict[str, torch.Tensor] = {}
    for spelling, key in comfy.lora.model_lora_keys_unet(model.model, {}).items():
        key, rows = key if isinstance(key, tuple) and len(key) == 2 else (key, None)
        if not spelling.startswith("transformer.") or key not in weights or weights[key].ndim != 2:
            continue
        out, size = weights[key].shape
        if rows and rows[1] + rows[2] > out:
            continue  # the host counts on the full-size model's width here
        tensors[f"{spelling}.lora_A.weight"] = torch.randn(2, size, generator=generator)
        up = torch.randn(rows[2] if rows else out, 2, generator=generator)
        tensors[f"{spelling}.lora_B.weight"] = up
    assert len(tensors) > 30
    save_file(tensors, tmp_path / "lora.safetensors")
    policy = read_model_lora(tmp_path / "lora.safetensors", model, tmp_path).policy
    loaded, _ = comfy.sd.load_lora_for_models(
        model, None, comfy.utils.load_torch_file(str(tmp_path / "lora.safetensors")), 1.0, 0.0
    )
    assert {f"diffusion_model.{layer}.weight" for layer in policy.layers} == set(loaded.patches)
    for layer in policy.layers:
        key = f"diffusion_model.{layer}.weight"
        theirs = comfy.lora.calculate_weight(
            loaded.patches[key], torch.zeros(weights[key].shape), key
        )
        torch.testing.assert_close(change(policy, layer), theirs)


def test_what_diffusers_itself_writes(unet: Any, tmp_path: Path) -> None:
    """An adapter made by PEFT and saved by the pipeline: the same prediction after reading it."""
    from diffusers import StableDiffusionPipeline
    from diffusers import StableDiffusionXLPipeline as XLPipeline
    from peft import LoraConfig, get_peft_model_state_dict

    from pxpo_core.backends.comfy.lora_files import read_model_lora

    network = unet.diffusers_unet()
    targets = ["to_q", "to_k", "to_v", "to_out.0", "conv1", "proj_in"]
    adapter = LoraConfig(r=3, lora_alpha=6, target_modules=targets)
    network.add_adapter(adapter)
    generator = torch.Generator().manual_seed(4)
    for parameter_name, parameter in network.named_parameters():
        if "lora_B" in parameter_name:
            parameter.data.normal_(std=0.05, generator=generator)
    pipeline: Any = XLPipeline if unet.kind == "sdxl" else StableDiffusionPipeline
    layers = get_peft_model_state_dict(network)
    pipeline.save_lora_weights(
        tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=adapter.to_dict()
    )
    (path,) = tmp_path.glob("*.safetensors")
    assert len(load_file(path)) == len(layers)
    loaded = read_model_lora(path, unet.model, tmp_path)
    theirs = unet.predict_in_diffusers(network)
    moved = float((theirs - unet.base).abs().max())
    assert moved > 1e-2 * float(unet.base.abs().max())
    assert float((unet.predict_with(loaded.policy) - theirs).abs().max()) / moved <= 1e-3
