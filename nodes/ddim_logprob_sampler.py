"""DDIM LogProb Sampler: samples pictures and keeps the path, so that a LoRA can learn from it."""

from collections.abc import Mapping
from typing import Any

import torch
from comfy_api.latest import io

from ..pxpo_core.backends.comfy.host_model import fingerprint
from ..pxpo_core.backends.comfy.kept_rollouts import KeptRollouts, input_key
from ..pxpo_core.backends.comfy.patches import refuse_unrepeatable
from ..pxpo_core.backends.comfy.policy_model import detach_policy, policy_of
from ..pxpo_core.backends.comfy.rollout import Rollout
from ..pxpo_core.backends.comfy.session import predicted_latents, sample
from ..pxpo_core.lora import LoRALayers
from .picture_latent import sampled
from .progress import Progress
from .sampling import (
    cfg_widget,
    denoise_widget,
    eta_widget,
    prepare,
    preview_callback,
    schedule,
    scheduler_widget,
    seed_widget,
    steps_widget,
)
from .types import CATEGORY
from .types import Rollout as RolloutType

_KEPT = KeptRollouts()
"""The only state of a node: lost at a restart, when the same inputs sample the same batch again."""


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
                seed_widget("Leave it: every round draws new noise from seed, round and image."),
                steps_widget(),
                cfg_widget(),
                scheduler_widget(),
                eta_widget("Share of fresh noise per step; training needs more than 0."),
                denoise_widget(),
                io.Sigmas.Input(
                    "sigmas",
                    optional=True,
                    tooltip="Replaces steps, scheduler and denoise.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent"),
                RolloutType.Output(display_name="rollout"),
                io.Latent.Output(
                    display_name="predictions",
                    tooltip="What the pictures were going to be, at 8 moments on the way. Decode "
                    "and score them as the pictures, for prediction_reward of PXPO Update LoRA.",
                ),
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
        if attachment is not None and eta == 0.0:
            raise ValueError(
                "Training needs eta above 0 (1 is usual), got 0: without fresh noise in each step "
                "there is nothing to learn from. For pictures alone, use a KSampler with euler."
            )
        base_model = detach_policy(model)
        if attachment is not None:
            refuse_unrepeatable(base_model)
        if sigmas is None:
            sigmas = schedule(base_model, scheduler, steps, denoise)
        round_ = 0 if attachment is None else attachment.run.round
        job, noises = prepare(
            base_model, positive, negative, latent_image, cfg, sigmas, seed, round_
        )
        policy = None if attachment is None else attachment.policy
        base = fingerprint(base_model) if attachment is None else attachment.base
        run = None if attachment is None else attachment.run
        key = None if policy is None else input_key(job, policy.digest, base, eta)
        found = None if run is None else _KEPT.find(run.name, key)
        if found is None:
            layers = None if policy is None else LoRALayers(policy, base_model.load_device)
            total = len(sigmas) - 1
            progress = Progress(cls.hidden.unique_id, "Sampling step", total)
            callback = preview_callback(base_model, progress, total)
            found = sample(job, layers, eta, noises, callback)
            if run is not None:
                _KEPT.keep(run.name, key, *found)
        latent, trajectory = found
        rollout = Rollout(trajectory=trajectory, job=job, policy=policy, run=run, base=base)
        on_the_way = predicted_latents(job, trajectory)
        return io.NodeOutput(sampled(latent_image, latent), rollout, {"samples": on_the_way})
