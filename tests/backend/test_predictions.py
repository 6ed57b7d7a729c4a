"""The predictions a reward may judge are those the host's model made, in the host's units."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import small_models
import torch
from graph_cases import CASES, Case, random
from replayed import learned, rollout_of

from pxpo_core.stepwise import checkpoints

if TYPE_CHECKING:
    from pxpo_dev.comfyui import ComfyUI

    from .conftest import Tiny

STEPS = 12
FAMILIES = ["sd15", "sd2v", "sd2v_zsnr", "edm", "unet_flow", "sd3", small_models.NOISIER,
            "qwen_image", "cosmos_predict2"]  # fmt: skip


def family(name: str, comfyui: ComfyUI) -> small_models.Family:
    known = (*small_models.available(), *small_models.noisier())
    if name not in known:
        pytest.skip(f"ComfyUI {comfyui.version} has no {name}")
    return replace(small_models.build(name), steps=STEPS)


def watched(model: Any) -> tuple[Any, list[torch.Tensor]]:
    """A clone of a MODEL, and what it predicts, guidance included, in the model's own units."""
    made: list[torch.Tensor] = []

    def note(args: dict[str, Any]) -> torch.Tensor:
        made.append(args["denoised"].clone())
        return made[-1]

    clone = model.clone()
    clone.set_model_sampler_post_cfg_function(note)
    return clone, made


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", FAMILIES)
def test_they_are_what_the_model_predicted(
    name: str, batch: int, comfyui: ComfyUI, inference_mode: None
) -> None:
    """Also of a model whose latent is a video of one frame, and where noise has a factor."""
    from pxpo_core.backends.comfy.session import predicted_latents, sample

    made_of = family(name, comfyui)
    model, made = watched(made_of.model)
    job = replace(made_of.job(batch=batch), model=model)
    latent, trajectory = sample(job, None, 1.0, made_of.noise(batch)[1:])
    found = predicted_latents(job, trajectory)

    steps = [trajectory.trainable[i] for i in checkpoints(len(trajectory.trainable))]
    assert len(steps) == 8
    wanted = model.model.process_latent_out(torch.cat([made[t] for t in steps]))
    assert found.shape == (8 * batch, *latent.shape[1:])
    assert (found.ndim == 5) == (name in small_models.SINGLE_FRAME)
    assert found.device.type == "cpu"
    worst = float((found - wanted).abs().max() / latent.std())
    assert worst < (5e-3 if name == "sd2v_zsnr" else 5e-4)  # its first states are of size 4500


def test_outside_a_noise_mask_they_show_the_finished_picture(tiny: Tiny) -> None:
    from pxpo_core.backends.comfy.session import predicted_latents

    graph = CASES["noise_mask"](Case(tiny.model, tiny.positive, tiny.negative))
    rollout = rollout_of(graph, learned(tiny.policy()))
    found = predicted_latents(rollout.job, rollout.trajectory)
    finished = tiny.model.model.process_latent_out(rollout.trajectory.x_0)
    count = len(found) // len(finished)
    assert count == 3
    right = found[..., 4:]  # the mask is white on the left
    assert torch.equal(right, finished[..., 4:].repeat(count, 1, 1, 1))
    torch.testing.assert_close(right, graph.latent[..., 4:].repeat(count, 1, 1, 1))
    assert not torch.equal(found[: len(finished), ..., :4], finished[..., :4])


def test_without_fresh_noise_there_is_the_finished_picture_once(tiny: Tiny) -> None:
    from pxpo_core.backends.comfy.session import predicted_latents, sample

    job = tiny.rollout(None).job
    latent, trajectory = sample(job, None, 0.0, random(6, 3, 4, 8, 8))
    torch.testing.assert_close(predicted_latents(job, trajectory), latent)
