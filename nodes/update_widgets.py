"""The inputs of PXPO Update LoRA; new ones go to the end, so that saved workflows keep theirs."""

from typing import get_args

from comfy_api.latest import io

from ..pxpo_core.run import KEEP_LAST
from ..pxpo_core.update import UpdateConfig
from ..pxpo_core.update_config import Objective
from .types import Reward, Rollout, advanced
from .update_credit import AUTOMATIC
from .update_presets import CUSTOM, LEARNING_RATES, PRESETS

LARGEST_RADIUS = 1024.0
"""A credit radius this large means the whole picture."""


def update_inputs() -> list[io.Input]:
    """What arrives, the widgets people turn, then the advanced ones."""
    defaults = UpdateConfig()
    return [
        Rollout.Input("rollout", tooltip="From DDIM LogProb Sampler."),
        Reward.Input("reward", tooltip="For the pictures of this rollout, same order."),
        io.Float.Input(
            "learning_rate",
            default=defaults.learning_rate,
            min=1e-7,
            max=1.0,
            step=1e-5,
            round=1e-7,
            tooltip="How far each round goes. Lower it when pictures fall apart.",
        ),
        io.Int.Input(
            "train_steps",
            default=0,
            min=0,
            max=1000,
            tooltip="At how many noise levels the pictures are learned; each costs time. "
            "0 = as many as suits the objective.",
        ),
        advanced(
            io.Float.Input(
                "credit_radius",
                default=defaults.credit_radius,
                min=0.0,
                max=LARGEST_RADIUS,
                step=0.5,
                tooltip="Spread feedback to neighbours, in latent pixels (8 image pixels). "
                f"0 = exactly where marked, {LARGEST_RADIUS:.0f} = the whole picture.",
            )
        ),
        advanced(
            io.Float.Input(
                "anchor",
                default=defaults.anchor,
                min=0.0,
                max=1000.0,
                step=0.01,
                tooltip="Holds what has no feedback as the base model has it. 0 = off, a little "
                "faster.",
            )
        ),
        advanced(
            io.Int.Input(
                "steps_per_rollout",
                default=0,
                min=0,
                max=64,
                tooltip="How often a round's pictures are learned from; each time costs the "
                "same. 0 = as often as suits the objective.",
            )
        ),
        advanced(
            io.Combo.Input(
                "step_weighting",
                options=["uniform", "exact", "denoised"],
                default=defaults.step_weighting,
                tooltip="denoised: steps count by what they do to the picture. uniform: by what "
                "they do to the noise. exact: as in DDPO.",
            )
        ),
        advanced(
            io.Int.Input(
                "micro_batch",
                default=defaults.micro_batch,
                min=1,
                max=4096,
                tooltip="The most pictures trained at once; fewer where memory is short.",
            )
        ),
        io.Vae.Input(
            "vae",
            optional=True,
            tooltip="Shows what the round changed, with a before / after slider. Costs the "
            "sampling of one more picture.",
        ),
        advanced(
            io.Boolean.Input(
                "keep_partial",
                default=False,
                optional=True,
                tooltip="When you stop a round of several optimizer steps on the way, keep "
                "the steps that were finished as a round. Otherwise nothing is kept of it.",
            )
        ),
        advanced(
            io.Combo.Input(
                "anchor_region",
                options=["everywhere", "unmarked"],
                default=defaults.anchor_region,
                optional=True,
                tooltip="What the anchor holds: only pixels without feedback, or the whole "
                "picture.",
            )
        ),
        advanced(
            io.Boolean.Input(
                "auto_stop",
                default=True,
                optional=True,
                tooltip="With automatic rewards, make no further round once the pictures "
                "fall apart: flat, noisy, saturated or all alike for two rounds.",
            )
        ),
        advanced(
            io.Int.Input(
                "keep_last",
                default=KEEP_LAST,
                min=0,
                max=9999,
                optional=True,
                tooltip="How many rounds keep all of what training needs to go on from them "
                "exactly; older ones save space. 0 = all. LoRAs are never removed.",
            )
        ),
        advanced(
            io.Boolean.Input(
                "stepwise",
                default=defaults.stepwise,
                optional=True,
                tooltip="Count only what could not be foreseen, at each noise level or sampling "
                "step: learns from far fewer pictures. Off: everything counts, as in the paper.",
            )
        ),
        Reward.Input(
            "prediction_reward",
            optional=True,
            tooltip="The same reward for the sampler's predictions, decoded. Worth it for rewards "
            "that see more than colour, such as a segmenter's mask; costs 8 more pictures each.",
        ),
        io.Combo.Input(
            "preset",
            options=list(PRESETS),
            default=CUSTOM,
            optional=True,
            tooltip="How far each round goes: "
            + ", ".join(f"{name} {rate:g}" for name, rate in LEARNING_RATES.items())
            + ". custom: learning_rate as set above.",
        ),
        advanced(
            io.Combo.Input(
                "objective",
                options=[AUTOMATIC, *get_args(Objective)],
                default=AUTOMATIC,
                optional=True,
                tooltip="What becomes likelier. path: the sampling steps that led to good pixels, "
                "as in the paper. pictures: the good pixels themselves, learned from finished "
                "pictures at fresh noise. automatic: pictures, but path with prediction_reward or "
                "where the sampler's sigmas do not end at 0.",
            )
        ),
    ]
