"""Rollout from Pictures: learn from finished pictures, whichever sampler or program made them."""

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io

from ..pxpo_core.backends.comfy.forward_process import noised_pictures
from ..pxpo_core.backends.comfy.policy_model import detach_policy, policy_of
from ..pxpo_core.backends.comfy.rollout import Rollout
from .sampling import (
    cfg_widget,
    prepare,
    schedule,
    scheduler_widget,
    seed_widget,
    steps_widget,
)
from .types import CATEGORY, advanced
from .types import Rollout as RolloutType


class PictureRollout(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_PictureRollout",
            display_name="Rollout from Pictures",
            category=CATEGORY,
            description="Lets PXPO Update LoRA learn from finished pictures: those of any "
            "KSampler, or one from elsewhere through VAE Encode. Nothing is sampled here.",
            inputs=[
                io.Model.Input("model", tooltip="From PXPO Training Run."),
                io.Conditioning.Input(
                    "positive", tooltip="What the pictures show; describe pictures from elsewhere."
                ),
                io.Conditioning.Input("negative"),
                io.Latent.Input("latent", tooltip="The finished pictures, not an empty latent."),
                advanced(
                    seed_widget("For the noise that is added to learn from; every round draws new.")
                ),
                steps_widget(),
                cfg_widget(),
                scheduler_widget(),
            ],
            outputs=[
                io.Latent.Output(display_name="latent"),
                RolloutType.Output(display_name="rollout"),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        positive: Any,
        negative: Any,
        latent: Mapping[str, Any],
        seed: int,
        steps: int,
        cfg: float,
        scheduler: str,
    ) -> io.NodeOutput:
        attachment = policy_of(model)
        if attachment is None:
            raise ValueError(
                "Rollout from Pictures needs the model of PXPO Training Run: put that node before "
                "it, and sample with the same model."
            )
        base_model = detach_policy(model)
        sigmas = schedule(base_model, scheduler, steps, 1.0)
        job, noises = prepare(
            base_model, positive, negative, latent, cfg, sigmas, seed, attachment.run.round
        )
        if not job.latent_image.any():
            raise ValueError(
                "This latent is empty. Connect finished pictures: the output of a KSampler, or of "
                "VAE Encode."
            )
        rollout = Rollout(
            trajectory=noised_pictures(job, noises),
            job=job,
            policy=attachment.policy,
            run=attachment.run,
            base=attachment.base,
        )
        return io.NodeOutput(latent, rollout)
