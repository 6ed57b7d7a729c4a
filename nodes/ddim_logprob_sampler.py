"""DDIM LogProb Sampler: samples pictures and keeps the path, so that a LoRA can learn from it."""

from collections.abc import Mapping, Sequence
from typing import Any

import comfy.sample
import comfy.samplers
import latent_preview
import torch
from comfy_api.latest import io

from ..pxpo_core.backends.comfy.host_model import fingerprint
from ..pxpo_core.backends.comfy.policy_model import detach_policy, policy_of
from ..pxpo_core.backends.comfy.rollout import Rollout
from ..pxpo_core.backends.comfy.session import SamplingJob, sample
from ..pxpo_core.lora import LoRALayers
from ..pxpo_core.rollout import draw_noise
from .progress import Progress
from .types import CATEGORY, advanced
from .types import Rollout as RolloutType

LARGEST_SEED = 2**63 - 1


class DDIMLogProbSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_DDIMLogProbSampler",
            display_name="DDIM LogProb Sampler",
            category=CATEGORY,
            description="Samples with DDIM and fresh noise in every step, and keeps the path: "
            "PXPO Update LoRA learns from it. Each round of a run draws new noise by itself.",
            inputs=[
                io.Model.Input("model", tooltip="From PXPO Training Run, to train."),
                io.Conditioning.Input("positive"),
                io.Conditioning.Input("negative"),
                io.Latent.Input("latent_image"),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=LARGEST_SEED,
                    control_after_generate=False,
                    tooltip="Leave it: every round draws new noise from seed, round and image.",
                ),
                io.Int.Input("steps", default=16, min=2, max=1000),
                io.Float.Input("cfg", default=3.5, min=0.0, max=100.0, step=0.1, round=0.01),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.SCHEDULER_NAMES, default="karras"
                ),
                advanced(
                    io.Float.Input(
                        "eta",
                        default=1.0,
                        min=0.0,
                        max=1.0,
                        step=0.05,
                        tooltip="Share of fresh noise per step; training needs more than 0.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "denoise",
                        default=1.0,
                        min=0.01,
                        max=1.0,
                        step=0.01,
                        tooltip="Below 1, starts from the latent image with some noise.",
                    )
                ),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="Replaces steps, scheduler and denoise.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent"),
                RolloutType.Output(display_name="rollout"),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent_image: Mapping[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        scheduler: str,
        eta: float,
        denoise: float,
        sigmas: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        attachment = policy_of(model)
        base_model = detach_policy(model)
        start = comfy.sample.fix_empty_latent_channels(base_model, latent_image["samples"])
        if start.ndim != 4:
            raise ValueError(
                f"PXPO works on pictures; this latent has {start.ndim} dimensions "
                f"({list(start.shape)}). Connect an image latent."
            )
        if sigmas is None:
            sigmas = _schedule(base_model, scheduler, steps, denoise)
        if len(sigmas) < 3:
            raise ValueError(
                f"The sampler needs at least 2 steps, got {max(len(sigmas) - 1, 0)}: the last step "
                "has no noise to learn from."
            )
        samples = _sample_ids(latent_image, start.shape[0])
        round_ = 0 if attachment is None else attachment.run.round
        noise = draw_noise(start.shape[1:], len(sigmas), seed, round_, samples)
        job = SamplingJob(
            model=base_model,
            positive=positive,
            negative=negative,
            cfg=cfg,
            sigmas=sigmas,
            noise=noise[0],
            latent_image=start,
            noise_mask=latent_image.get("noise_mask"),
            seed=seed,
        )
        policy = None if attachment is None else attachment.policy
        layers = None if policy is None else LoRALayers(policy, base_model.load_device)
        latent, trajectory = sample(job, layers, eta, noise[1:], _callback(cls, base_model, job))
        rollout = Rollout(
            trajectory=trajectory,
            job=job,
            policy=policy,
            run=None if attachment is None else attachment.run,
            base=fingerprint(base_model) if attachment is None else attachment.base,
        )
        return io.NodeOutput({**latent_image, "samples": latent}, rollout)


def _schedule(model: Any, scheduler: str, steps: int, denoise: float) -> torch.Tensor:
    """steps + 1 sigmas of the host's scheduler; denoise < 1 keeps the last part of a longer one."""
    sampling = model.get_model_object("model_sampling")
    total = steps if denoise >= 1.0 else int(steps / denoise)
    return comfy.samplers.calculate_sigmas(sampling, scheduler, total).cpu()[-(steps + 1) :]


def _sample_ids(latent: Mapping[str, Any], batch: int) -> Sequence[int]:
    """The batch positions a latent came from, so that an excerpt of a batch keeps its noise."""
    ids = latent.get("batch_index")
    return list(range(batch)) if ids is None or len(ids) != batch else [int(i) for i in ids]


def _callback(cls: type[io.ComfyNode], model: Any, job: SamplingJob) -> Any:
    """Progress with a live preview of the first picture."""
    progress = Progress(cls.hidden.unique_id, "Sampling step", len(job.sigmas) - 1)
    previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def callback(step: int, denoised: torch.Tensor, x: torch.Tensor, total: int) -> None:
        preview = previewer and previewer.decode_latent_to_preview_image("JPEG", denoised)
        progress(step + 1, total, preview)

    return callback
