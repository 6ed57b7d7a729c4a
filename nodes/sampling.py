"""What nodes that sample share: the schedule, the noise, and progress with a preview."""

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.samplers
import latent_preview
from comfy_api.latest import io
from torch import Tensor

from ..pxpo_core.backends.comfy.session import SamplingJob, StepCallback
from ..pxpo_core.rollout import draw_noise
from .picture_latent import picture_latent
from .progress import Progress
from .types import advanced

LARGEST_SEED = 2**63 - 1
STEPS = 16
CFG = 3.5
SCHEDULER = "karras"


def seed_widget(tooltip: str) -> io.Int.Input:
    """A seed that stays: frontends add a changing one to anything of that name unless told."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=LARGEST_SEED,
        control_after_generate=False,
        tooltip=tooltip,
    )


def steps_widget() -> io.Int.Input:
    return io.Int.Input("steps", default=STEPS, min=2, max=1000)


def cfg_widget() -> io.Float.Input:
    return io.Float.Input("cfg", default=CFG, min=0.0, max=100.0, step=0.1, round=0.01)


def scheduler_widget() -> io.Combo.Input:
    return io.Combo.Input("scheduler", options=comfy.samplers.SCHEDULER_NAMES, default=SCHEDULER)


def eta_widget(tooltip: str) -> io.Float.Input:
    return advanced(
        io.Float.Input("eta", default=1.0, min=0.0, max=1.0, step=0.05, tooltip=tooltip)
    )


def denoise_widget() -> io.Float.Input:
    return advanced(
        io.Float.Input(
            "denoise",
            default=1.0,
            min=0.01,
            max=1.0,
            step=0.01,
            tooltip="Below 1, starts from the latent image with some noise.",
        )
    )


def schedule(model: Any, scheduler: str, steps: int, denoise: float) -> Tensor:
    """steps + 1 sigmas of the host's scheduler; denoise < 1 keeps the last part of a longer one."""
    sampling = model.get_model_object("model_sampling")
    total = steps if denoise >= 1.0 else int(steps / denoise)
    return comfy.samplers.calculate_sigmas(sampling, scheduler, total).cpu()[-(steps + 1) :]


def prepare(
    model: Any,
    positive: Any,
    negative: Any,
    latent_image: Mapping[str, Any],
    cfg: float,
    sigmas: Tensor,
    seed: int,
    round_: int,
) -> tuple[SamplingJob, Tensor]:
    """A job for the latent's batch, and the noise z of its steps: [T, B, C, h, w].

    model: without a policy's patches. Noise depends on seed, round and each picture's place.
    Raises ValueError for a latent that is no picture, or fewer than 2 steps.
    """
    start = picture_latent(model, latent_image)
    if len(sigmas) < 3:
        raise ValueError(
            f"The sampler needs at least 2 steps, got {max(len(sigmas) - 1, 0)}: the last step "
            "has no noise to learn from."
        )
    samples = _sample_ids(latent_image, start.shape[0])
    noise = draw_noise(start.shape[1:], len(sigmas), seed, round_, samples)
    job = SamplingJob(
        model=model,
        positive=positive,
        negative=negative,
        cfg=cfg,
        sigmas=sigmas,
        noise=noise[0],
        latent_image=start,
        noise_mask=latent_image.get("noise_mask"),
        seed=seed,
    )
    return job, noise[1:]


def preview_callback(model: Any, progress: Progress, total: int, offset: int = 0) -> StepCallback:
    """Progress with a live preview of the first picture; offset: steps done before these."""
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def callback(step: int, denoised: Tensor, x: Tensor, steps: int) -> None:
        preview = previewer and previewer.decode_latent_to_preview_image("JPEG", denoised)
        progress(offset + step + 1, total, preview)

    return callback


def _sample_ids(latent: Mapping[str, Any], batch: int) -> Sequence[int]:
    """The batch positions a latent came from, so that an excerpt of a batch keeps its noise."""
    ids = latent.get("batch_index")
    return list(range(batch)) if ids is None or len(ids) != batch else [int(i) for i in ids]
