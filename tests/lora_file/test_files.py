"""Writing and reading on small made-up models: exact, atomic, and safe with damaged input."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from pxpo_core.lora import LoRAConfig, Policy
from pxpo_core.lora_file import (
    Architecture,
    LoRAFileError,
    LoRAInfo,
    policy_from_tensors,
    read_lora,
    save_lora,
    unet_names,
)

SHAPES = {
    "input_blocks.1.1.transformer_blocks.0.attn1.to_q": (8, 8),
    "input_blocks.1.0.in_layers.2": (8, 4, 3, 3),
    "middle_block.1.transformer_blocks.0.attn2.to_k": (8, 6),
}
NAMES = unet_names(
    {
        "num_res_blocks": [1],
        "channel_mult": [1],
        "transformer_depth": [1],
        "transformer_depth_output": [1, 1],
    }
)
JPEG = b"\xff\xd8 not much of a picture"
INFO = LoRAInfo(
    "Less hair",
    Architecture("stable-diffusion-v1", "sd_v1"),
    run="hair",
    run_uuid="0" * 32,
    round=7,
    images=56,
    marked_images=12,
    resolution="256x256",
    thumbnail=JPEG,
)
FORMATS = ["kohya", "generic", "diffusers"]


def policy(rank: int = 3, alpha: float = 1.5, seed: int = 0) -> Policy:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer, (out, *rest) in SHAPES.items():
        ones = [1] * len(rest[1:])
        tensors[f"{layer}.lora_down.weight"] = torch.randn(rank, *rest, generator=generator)
        tensors[f"{layer}.lora_up.weight"] = torch.randn(out, rank, *ones, generator=generator)
    return Policy(LoRAConfig(rank, alpha, "all layers", init_seed=5), tensors)


def save(folder: Path, what: Policy | None = None, **options: object) -> Path:
    options = {"key_format": "kohya", "names": NAMES, **options}
    return save_lora(folder, "hair_r0007", what or policy(), INFO, **options).path  # type: ignore[arg-type]


@pytest.mark.parametrize("key_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_round_trip(tmp_path: Path, key_format: str, dtype: torch.dtype) -> None:
    path = save(tmp_path, key_format=key_format, dtype=dtype)
    read = read_lora(path, SHAPES, NAMES, tmp_path).policy
    if dtype == torch.float32 and key_format != "diffusers":
        assert read.digest == policy().digest
    for name, tensor in policy().tensors.items():
        scale = policy().config.scaling if key_format == "diffusers" and "up" in name else 1.0
        torch.testing.assert_close(read.tensors[name], tensor * scale, rtol=1e-2, atol=1e-6)
    stored = {t.dtype for n, t in load_file(path).items() if not n.endswith(".alpha")}
    assert stored == {dtype}


def test_kohya_names_are_those_of_diffusers(tmp_path: Path) -> None:
    names = {key.split(".")[0] for key in load_file(save(tmp_path))}
    assert names == {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q",
        "lora_unet_down_blocks_0_resnets_0_conv1",
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k",
    }


def test_metadata(tmp_path: Path) -> None:
    path = save(tmp_path)
    data = path.read_bytes()
    body = data[8 + int.from_bytes(data[:8], "little") :]
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    expected = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "stable-diffusion-v1/lora",
        "modelspec.title": "Less hair",
        "modelspec.resolution": "256x256",
        "modelspec.hash_sha256": "0x" + hashlib.sha256(body).hexdigest(),
        "sshs_model_hash": hashlib.sha256(body).hexdigest(),
        "ss_network_module": "networks.lora",
        "ss_network_dim": "3",
        "ss_network_alpha": "1.5",
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
        "ss_output_name": "hair_r0007",
        "pxpo.run": "hair",
        "pxpo.round": "7",
        "pxpo.images": "56",
        "pxpo.marked_images": "12",
        "pxpo.policy": policy().digest,
    }
    assert expected.items() <= metadata.items()
    assert json.loads(metadata["ss_network_args"]) == {"conv_dim": "3", "conv_alpha": "1.5"}
    assert metadata["modelspec.date"].endswith("+00:00")
    kind, _, picture = metadata["modelspec.thumbnail"].partition(",")
    assert (kind, base64.b64decode(picture)) == ("data:image/jpeg;base64", JPEG)


def test_a_large_or_strange_thumbnail_is_left_out(tmp_path: Path) -> None:
    for thumbnail in (b"\xff\xd8" + bytes(60_000), b"<svg onload=...>"):
        info = replace(INFO, thumbnail=thumbnail)
        path = save_lora(tmp_path, "a", policy(), info, "kohya", NAMES).path
        with safe_open(path, "pt") as file:
            assert "modelspec.thumbnail" not in file.metadata()
        path.unlink()


def test_the_same_lora_is_written_once_and_nothing_is_overwritten(tmp_path: Path) -> None:
    first = save(tmp_path)
    before = first.read_bytes()
    again = save_lora(tmp_path, "hair_r0007", policy(), INFO, "kohya", NAMES)
    assert (again.path, again.new) == (first, False)
    other = save(tmp_path, policy(seed=1))
    half = save(tmp_path, policy(seed=1), dtype=torch.float16)
    assert [other.name, half.name] == ["hair_r0007_2.safetensors", "hair_r0007_3.safetensors"]
    assert first.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([first.name, other.name, half.name])


def test_a_strange_file_of_that_name_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "hair_r0007.safetensors").write_bytes(b"not ours")
    (tmp_path / "hair_r0007_2.safetensors").symlink_to(tmp_path / "nowhere")
    assert save(tmp_path).name == "hair_r0007_3.safetensors"
    assert (tmp_path / "hair_r0007.safetensors").read_bytes() == b"not ours"


def test_nothing_is_left_when_the_disk_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(LoRAFileError, match="No space left"):
        save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_or_a_folder_that_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(LoRAFileError, match="could not be made"):
        save(tmp_path / "file" / "loras")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    with pytest.raises(LoRAFileError, match="this LoRA needs"):
        save(tmp_path / "loras")
    assert list((tmp_path / "loras").iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_never_written(tmp_path: Path, value: float) -> None:
    bad = policy()
    next(iter(bad.tensors.values())).view(-1)[3] = value
    with pytest.raises(LoRAFileError, match="NaN or infinity"):
        save(tmp_path, bad)
    assert list(tmp_path.iterdir()) == []


def test_float16_overflow_is_never_written(tmp_path: Path) -> None:
    large = policy()
    next(iter(large.tensors.values())).view(-1)[3] = 1e6
    with pytest.raises(LoRAFileError, match="as float16"):
        save(tmp_path, large, dtype=torch.float16)
    save(tmp_path, large)


def test_layers_of_different_rank_and_alpha_are_brought_to_one() -> None:
    layers = list(SHAPES)
    small, large = policy(2, 3.0), policy(5, 1.0)
    tensors = {}
    for source, chosen in ((small, layers[:1]), (large, layers[1:])):
        for layer in chosen:
            for part in ("lora_down.weight", "lora_up.weight"):
                tensors[f"diffusion_model.{layer}.{part}"] = source.tensors[f"{layer}.{part}"]
            tensors[f"diffusion_model.{layer}.alpha"] = torch.tensor(source.config.lora_alpha)
    read = policy_from_tensors(tensors, SHAPES, NAMES)
    assert read.config.r == 5
    for layer, source in zip(layers, (small, large, large), strict=True):
        torch.testing.assert_close(change(read, layer), change(source, layer))


def change(what: Policy, layer: str) -> torch.Tensor:
    down = what.tensors[f"{layer}.lora_down.weight"].flatten(1)
    return what.config.scaling * what.tensors[f"{layer}.lora_up.weight"].flatten(1) @ down


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({**SHAPES, "middle_block.1.transformer_blocks.0.attn2.to_k": (8, 7)}, "architecture"),
        ({"input_blocks.1.0.in_layers.2": (8, 4, 3, 3)}, "another architecture"),
        ({"double_blocks.0.img_attn.qkv": (8, 8)}, "another architecture"),
    ],
)
def test_another_architecture(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(LoRAFileError, match=message):
        read_lora(save(tmp_path), shapes, NAMES)


@pytest.mark.parametrize(
    ("key", "tensor", "message"),
    [
        ("alpha", torch.tensor(float("nan")), "NaN"),
        ("alpha", torch.tensor(0.0), "alpha"),
        ("alpha", torch.ones(3), "alpha"),
        ("lora_up.weight", None, "has no up part"),
        ("lora_up.weight", torch.full((8, 3), float("inf")), "NaN or infinity"),
        ("lora_up.weight", torch.ones(8, 4), "another architecture"),
        ("lora_up.weight", torch.ones(8, 3, dtype=torch.int8), "not a float type"),
        ("lora_down.weight", torch.ones(0, 8), "rank 0"),
        ("lora_down.weight", torch.ones(2000, 8), "rank 2000"),
        ("hada_w1_a", torch.ones(8, 3), "LoHa"),
        ("something", torch.ones(8, 3), "by another method"),
    ],
)
def test_wrong_tensors(tmp_path: Path, key: str, tensor: torch.Tensor | None, message: str) -> None:
    name = f"diffusion_model.{next(iter(SHAPES))}.{key}"
    tensors = load_file(save(tmp_path, key_format="generic"))
    tensors.pop(name, None)
    if tensor is not None:
        tensors[name] = tensor
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(LoRAFileError, match=message):
        read_lora(tmp_path / "bad.safetensors", SHAPES, NAMES)


def test_a_layer_under_two_names(tmp_path: Path) -> None:
    tensors = load_file(save(tmp_path)) | load_file(save(tmp_path, key_format="generic"))
    with pytest.raises(LoRAFileError, match="twice"):
        policy_from_tensors(tensors, SHAPES, NAMES)


def test_paths(tmp_path: Path) -> None:
    loras, outside = tmp_path / "loras", tmp_path / "outside"
    loras.mkdir()
    path = save(outside)
    before = path.read_bytes()
    (loras / "link.safetensors").symlink_to(path)
    (loras / "folder.safetensors").mkdir()
    (loras / "model.ckpt").write_bytes(b"")
    for name, message in (
        ("link.safetensors", "leads out of"),
        ("../outside/hair_r0007.safetensors", "leads out of"),
        ("folder.safetensors", "not a .safetensors file"),
        ("model.ckpt", "not a .safetensors file"),
        ("missing.safetensors", "does not exist"),
        ("nul\0byte.safetensors", "no file name"),
    ):
        with pytest.raises(LoRAFileError, match=message):
            read_lora(loras / name, SHAPES, NAMES, loras)
    (tmp_path / "shared").symlink_to(outside)  # the whole folder may be a link
    read_lora(tmp_path / "shared" / path.name, SHAPES, NAMES, tmp_path / "shared")
    assert path.read_bytes() == before


@pytest.fixture(scope="module")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("fuzz"))


FUZZ = settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(st.data())
def test_any_truncation_is_refused(good_file: Path, data: st.DataObject) -> None:
    whole = good_file.read_bytes()
    cut = data.draw(st.integers(0, len(whole) - 1))
    path = good_file.parent / "cut.safetensors"
    path.write_bytes(whole[:cut])
    with pytest.raises(LoRAFileError):
        read_lora(path, SHAPES, NAMES, path.parent)


@FUZZ
@given(st.data())
def test_damaged_bytes_give_an_error_or_a_sound_policy(
    good_file: Path, data: st.DataObject
) -> None:
    damaged = bytearray(good_file.read_bytes())
    # half of the hits go to the header, where the structure is
    for _ in range(data.draw(st.integers(1, 8))):
        limit = data.draw(st.sampled_from([min(600, len(damaged)), len(damaged)]))
        damaged[data.draw(st.integers(0, limit - 1))] = data.draw(st.integers(0, 255))
    path = good_file.parent / "damaged.safetensors"
    path.write_bytes(bytes(damaged))
    try:
        read = read_lora(path, SHAPES, NAMES, path.parent).policy
    except LoRAFileError:
        return
    for layer, (out, *rest) in SHAPES.items():
        if layer in read.layers:
            assert read.tensors[f"{layer}.lora_down.weight"].shape[1:] == torch.Size(rest)
            assert read.tensors[f"{layer}.lora_up.weight"].shape[0] == out
    assert all(bool(torch.isfinite(tensor).all()) for tensor in read.tensors.values())


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(
            [
                f"{prefix}{layer}{part}"
                for prefix in ("diffusion_model.", "")
                for layer in SHAPES
                for part in (".lora_down.weight", ".lora_up.weight", ".lora_A.weight", ".alpha")
            ]
        ),
        st.lists(st.integers(0, 9), max_size=4),
        max_size=8,
    )
)
def test_any_set_of_shapes_gives_an_error_or_a_sound_policy(shapes: dict[str, list[int]]) -> None:
    tensors = {name: torch.ones(shape) for name, shape in shapes.items()}
    try:
        read = policy_from_tensors(tensors, SHAPES, NAMES)
    except LoRAFileError:
        return
    assert set(read.layers) <= set(SHAPES)
