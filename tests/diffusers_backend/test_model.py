"""What is read from pipelines: noise levels, schedules, size conditioning; and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_pipelines
import torch
from safetensors.torch import save_file


def test_schedules_are_the_hosts(cases: dict[str, Any], comfyui: Any) -> None:
    import comfy.model_sampling
    import comfy.samplers

    from pxpo_core.backends.diffusers.schedule import SCHEDULES

    class Host(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
        pass

    host, model = Host(), cases["sd15-epsilon"].model
    torch.testing.assert_close(model.levels.float(), host.sigmas, rtol=1e-4, atol=0.0)
    for name, make in SCHEDULES.items():
        for steps in (2, 7):
            theirs = comfy.samplers.calculate_sigmas(host, name, steps)
            ours = torch.tensor(make(model.levels, steps))
            torch.testing.assert_close(ours, theirs, rtol=2e-4, atol=1e-6)
    for sigma in (14.6, 3.0, 0.5, 0.03):
        assert model.timestep(sigma) == int(host.timestep(torch.tensor(sigma)))


def test_sdxl_is_told_the_size_of_the_pictures(cases: dict[str, Any]) -> None:
    """The same time_ids as the pipeline's own, and they matter."""
    from pxpo_core.backends.diffusers.conditioning import encode

    pipeline = cases["sdxl-epsilon"].pipeline
    positive, negative = encode(pipeline, ["a cat"], "", width=96, height=64)
    theirs = pipeline._get_add_time_ids((64, 96), (0, 0), (64, 96), torch.float32, 32)
    assert torch.equal(positive.time_ids, theirs)
    assert torch.equal(negative.time_ids, theirs)
    assert positive.pooled.shape == (1, 32)
    assert encode(cases["sd15-epsilon"].pipeline, ["a cat"], "", 96, 64)[0].time_ids is None


def test_a_deterministic_sample_is_the_pipelines_own(cases: dict[str, Any]) -> None:
    """eta 0 along the schedule of diffusers' Euler gives diffusers' picture, guidance included."""
    import diffusers

    from pxpo_core.backends.diffusers.conditioning import encode
    from pxpo_core.backends.diffusers.session import SamplingJob, sample

    for name in ("sd15-epsilon", "sdxl-v_prediction"):
        case = cases[name]
        pipeline, own = case.pipeline, case.pipeline.scheduler
        euler = diffusers.EulerDiscreteScheduler.from_config(own.config, timestep_spacing="leading")
        prompts = encode(pipeline, ["a cat"], "ugly", 64, 64)
        noise = case.noise[:, :1]
        pipeline.scheduler = euler
        try:
            pipeline.set_progress_bar_config(disable=True)
            euler.set_timesteps(4)
            theirs = pipeline(
                "a cat", negative_prompt="ugly", width=64, height=64, num_inference_steps=4,
                guidance_scale=3.0, latents=noise[0].clone(), output_type="latent",
            ).images  # fmt: skip
        finally:
            pipeline.scheduler = own
        sigmas = tuple(float(sigma) for sigma in euler.sigmas)
        job = SamplingJob(case.model, *prompts, 3.0, sigmas)
        start = float(euler.init_noise_sigma) / sigmas[0]
        ours = sample(job, None, 0.0, torch.cat([start * noise[:1], noise[1:]])).x_0
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=2e-3 * float(theirs.std()))


def test_pictures_are_the_pipelines_own(cases: dict[str, Any]) -> None:
    case = cases["sd15-epsilon"]
    latents = case.noise[0]
    ours = case.model.decode(latents)
    vae, processor = case.pipeline.vae, case.pipeline.image_processor
    with torch.no_grad():
        decoded = vae.decode(latents / vae.config.scaling_factor, return_dict=False)[0]
    theirs = processor.postprocess(decoded, output_type="pt").permute(0, 2, 3, 1)
    assert ours.shape == (3, 64, 64, 3)
    torch.testing.assert_close(ours, theirs, rtol=0.0, atol=1e-5)


@pytest.fixture
def altered(cases: dict[str, Any]) -> Iterator[Any]:
    """A pipeline whose parts a test may replace."""
    pipeline = cases["sd15-epsilon"].pipeline
    kept = pipeline.unet, pipeline.scheduler
    yield pipeline
    pipeline.unet, pipeline.scheduler = kept


def test_what_cannot_be_trained_is_refused_by_name(altered: Any) -> None:
    import diffusers

    from pxpo_core.backends.diffusers.loading import PipelineError
    from pxpo_core.backends.diffusers.model import PipelineModel

    kept = altered.unet, altered.scheduler
    refusals = [
        ({"scheduler": diffusers.FlowMatchEulerDiscreteScheduler()}, "FlowMatch"),
        ({"scheduler": diffusers.DDIMScheduler(prediction_type="sample")}, "'sample'"),
        ({"unet": tiny_pipelines.unet({**tiny_pipelines.SD15_UNET, "in_channels": 9})}, "9 chan"),
        ({"unet": tiny_pipelines.vae()}, "StableDiffusionPipeline"),
    ]
    for parts, words in refusals:
        altered.unet, altered.scheduler = kept
        for name, part in parts.items():
            setattr(altered, name, part)
        with pytest.raises(PipelineError, match=words):
            PipelineModel(altered)


def test_folders_and_single_files_load_without_a_network(
    cases: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pxpo_core.backends.diffusers.loading import PipelineError, load_pipeline
    from pxpo_core.backends.diffusers.model import PipelineModel

    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", no_network)
    case = cases["sd15-epsilon"]
    case.pipeline.save_pretrained(tmp_path / "folder")
    fingerprint = case.model.fingerprint()
    for precision in ("float32", "bfloat16"):
        loaded = load_pipeline(tmp_path / "folder", precision=precision)
        assert str(loaded.unet.dtype) == f"torch.{precision}"
        assert loaded.vae.dtype == torch.float32
        if precision == "float32":
            assert PipelineModel(loaded).fingerprint() == fingerprint

    file = tmp_path / "model.safetensors"
    save_file(single_file(case), file)
    with pytest.raises(PipelineError, match="folder with the configuration"):
        load_pipeline(file)
    loaded = load_pipeline(file, tmp_path / "folder")
    assert PipelineModel(loaded).fingerprint() == fingerprint
    for part in ("unet", "vae", "text_encoder"):
        theirs = getattr(loaded, part).state_dict()
        for name, tensor in getattr(case.pipeline, part).state_dict().items():
            assert torch.equal(theirs[name].reshape(tensor.shape), tensor), (part, name)
    for path in (tmp_path / "nothing", tmp_path / "folder" / "model_index.json"):
        with pytest.raises(PipelineError, match="neither a pipeline folder"):
            load_pipeline(path)
    (tmp_path / "broken.safetensors").write_bytes(b"not a model")
    with pytest.raises(PipelineError, match="cannot be loaded"):
        load_pipeline(tmp_path / "broken.safetensors", tmp_path / "folder")


def single_file(case: Any) -> dict[str, torch.Tensor]:
    """The pipeline as one checkpoint with the original names."""
    state = {
        f"model.diffusion_model.{name}": tensor.clone()
        for name, tensor in case.model.network.state_dict().items()
    }
    for name, tensor in case.pipeline.text_encoder.state_dict().items():
        state["cond_stage_model.transformer." + original_text_name(name)] = tensor.clone()
    for name, tensor in case.pipeline.vae.state_dict().items():
        original = original_vae_name(name)
        if ".attn_1." in original and original.endswith(".weight") and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        state[f"first_stage_model.{original}"] = tensor.clone()
    return state


def original_text_name(name: str) -> str:
    return name if name.startswith("text_model.") else f"text_model.{name}"


def original_vae_name(name: str) -> str:
    """A tensor's name in the original code of Stable Diffusion's VAE."""
    levels = 4
    parts = name.split(".")
    if parts[1] in ("down_blocks", "up_blocks"):
        up = parts[1] == "up_blocks"
        level = levels - 1 - int(parts[2]) if up else int(parts[2])
        part = "up" if up else "down"
        if parts[3] == "resnets":
            inner = [part, str(level), "block", parts[4], *parts[5:]]
        else:
            inner = [part, str(level), "upsample" if up else "downsample", *parts[5:]]
    elif parts[1] == "mid_block" and parts[2] == "resnets":
        inner = ["mid", f"block_{int(parts[3]) + 1}", *parts[4:]]
    elif parts[1] == "mid_block":
        attention = {
            "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out": "proj_out",
        }  # fmt: skip
        inner = ["mid", "attn_1", attention[parts[4]], parts[-1]]
    else:
        inner = parts[1:]
    renamed = {"conv_shortcut": "nin_shortcut", "conv_norm_out": "norm_out"}
    if parts[0] in ("quant_conv", "post_quant_conv"):
        return name
    return ".".join([parts[0], *(renamed.get(part, part) for part in inner)])


SD = {"cross_attention_dim": 768, "attention_head_dim": 8}
SDXL = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


@pytest.mark.parametrize(
    ("settings", "layers"), [(SD, [128, 160, 282]), (SDXL, [560, 700, 794])], ids=["sd15", "sdxl"]
)
def test_every_layer_of_the_full_size_unets_has_its_host_name(
    settings: dict[str, Any], layers: list[int]
) -> None:
    """Both ways; the numbers are those of ComfyUI's UNets."""
    from diffusers import UNet2DConditionModel

    from pxpo_core.backends.diffusers.names import NamedNetwork, names_of
    from pxpo_core.lora import TARGETS, target_layers

    with torch.device("meta"):
        unet = UNet2DConditionModel(**settings)
    network = NamedNetwork(unet, names_of(unet.config))
    assert [len(target_layers(network, target)) for target in TARGETS] == layers
    for name, module in network.named_modules():
        theirs = network.names.diffusers(name)
        assert theirs is not None
        assert unet.get_submodule(theirs) is module
