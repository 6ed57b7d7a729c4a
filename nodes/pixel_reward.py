"""Pixel Reward: what every pixel of a picture is worth, by a colour rule or a mask."""

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..pxpo_core import reward as rules
from ..pxpo_core.heatmap import overlay
from ..pxpo_core.metrics import summarize_rewards
from ..pxpo_core.reward import PixelReward
from .types import CATEGORY, Reward, advanced

CHANNEL = "channel level"
COLOUR = "colour distance"
MASK = "mask"
RULES = [CHANNEL, COLOUR, MASK]
CHANNELS = ["blue", "red", "green", "luminance"]
DIRECTIONS = ["less", "more"]

_NOT_CONNECTED = object()
_NO_MASK = "The rule is mask, but no mask is connected. Connect a mask, or choose another rule."


class PixelRewardNode(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_PixelReward",
            display_name="Pixel Reward (mask/colour)",
            category=CATEGORY,
            description="Scores every pixel: by the level of a colour channel, by likeness to a "
            "colour, or by a mask. In the preview, blue is liked and orange is disliked.",
            inputs=[
                io.Image.Input("image", tooltip="The decoded pictures of the rollout."),
                io.Combo.Input(
                    "rule",
                    options=RULES,
                    default=CHANNEL,
                    tooltip="channel level: how bright a channel is. colour distance: how close "
                    "to the chosen colour. mask: the mask itself.",
                ),
                io.Combo.Input(
                    "channel",
                    options=CHANNELS,
                    default=CHANNELS[0],
                    tooltip="For the rule channel level.",
                ),
                io.String.Input(
                    "colour",
                    default="#3060ff",
                    tooltip="For the rule colour distance: #RRGGBB.",
                ),
                io.Combo.Input(
                    "direction",
                    options=DIRECTIONS,
                    default=DIRECTIONS[0],
                    tooltip="more: high values are liked. less: they are disliked.",
                ),
                advanced(
                    io.Float.Input(
                        "inside",
                        default=1.0,
                        min=-100.0,
                        max=100.0,
                        step=0.05,
                        tooltip="Weight where the mask is white; needs a mask.",
                    )
                ),
                advanced(
                    io.Float.Input(
                        "outside",
                        default=0.0,
                        min=-100.0,
                        max=100.0,
                        step=0.05,
                        tooltip="Weight where the mask is black; needs a mask.",
                    )
                ),
                advanced(
                    io.Combo.Input(
                        "normalise",
                        options=list(rules.NORMALISE),
                        default=rules.NORMALISE[0],
                        tooltip="Divide by the RMS of the whole batch, or of each image.",
                    )
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="One mask for all pictures, or one each, of any size.",
                ),
            ],
            outputs=[
                Reward.Output(display_name="reward"),
                io.Image.Output(display_name="preview"),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            not_idempotent=True,
        )

    @classmethod
    def validate_inputs(
        cls, rule: str | None, colour: str | None, mask: object = _NOT_CONNECTED
    ) -> bool | str:
        """Said when Run is pressed. A linked input arrives as None, a missing one not at all."""
        if rule is not None and rule not in RULES:
            return f"rule must be one of {', '.join(RULES)}, got {rule!r:.60}."
        if rule == MASK and mask is _NOT_CONNECTED:
            return _NO_MASK
        if rule == COLOUR and colour is not None:
            try:
                rules.parse_colour(colour)
            except ValueError as error:
                return str(error)
        return True

    @classmethod
    def execute(
        cls,
        image: torch.Tensor,
        rule: str,
        channel: str,
        colour: str,
        direction: rules.Direction,
        inside: float,
        outside: float,
        normalise: rules.Normalise,
        mask: torch.Tensor | None = None,
    ) -> io.NodeOutput:
        weight = None
        if mask is not None:
            weight = rules.region_weight(image, mask, inside, outside)
        if rule == CHANNEL:
            scores = rules.channel_level(image, channel, direction, weight)
            label = f"{direction} {channel}"
        elif rule == COLOUR:
            scores = rules.colour_distance(image, rules.parse_colour(colour), direction, weight)
            label = f"{direction} like {colour}"
        elif mask is None:
            raise ValueError(_NO_MASK)
        else:
            scores = rules.mask_weight(image, mask, inside, outside, direction)
            label = f"{direction} of the mask"
        if weight is not None and rule != MASK:
            label += " in the mask"
        reward = rules.automatic_reward(rules.normalise(scores, normalise), image, label)
        preview = overlay(image, reward.map)
        saved = ui.PreviewImage(preview, cls=cls).as_dict()
        return io.NodeOutput(
            reward,
            preview,
            ui={
                "images": saved["images"],
                "text": [_status(reward)],
                "pxpo_reward": [_numbers(reward)],
            },
        )


def _numbers(reward: PixelReward) -> dict[str, Any]:
    summary = summarize_rewards(reward.map)
    return {
        "label": reward.label,
        "mean": summary.mean,
        "sd": summary.sd,
        "images": summary.images,
        "per_image": reward.map.mean(dim=(1, 2)).tolist(),
    }


def _status(reward: PixelReward) -> str:
    summary = summarize_rewards(reward.map)
    pictures = "1 image" if summary.images == 1 else f"{summary.images} images"
    if not reward.marked:
        return f"{reward.label}: nothing is marked ({pictures}), so no round will be made."
    return f"{reward.label}: mean {summary.mean:.3f} ± {summary.sd:.3f} ({pictures})"
