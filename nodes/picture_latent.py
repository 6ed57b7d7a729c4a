"""What a LATENT must be to be sampled: pictures, in the shape that the model wants."""

from collections.abc import Mapping
from typing import Any

import comfy.sample
from torch import Tensor

from ..pxpo_core.backends.comfy.host_model import has_frames

_RATIOS = ("downscale_ratio_spacial", "downscale_ratio_temporal")
"""Newer hosts note in an empty latent for which factor it was made, and fit it to the model."""


def picture_latent(model: Any, latent: Mapping[str, Any]) -> Tensor:
    """The LATENT's pictures: [B, C, h, w] with the model's own channels and size.

    Raises ValueError for anything else; a video of one frame is a picture for a video model.
    """
    samples = latent["samples"]
    if getattr(samples, "is_nested", False):
        raise ValueError(
            "PXPO works on pictures; this latent is a pack of several latents, such as video with "
            "sound. Connect an image latent."
        )
    ratios = {name: latent[name] for name in _RATIOS if latent.get(name) is not None}
    start: Tensor = comfy.sample.fix_empty_latent_channels(model, samples, **ratios)
    if start.ndim == 5:
        frames = start.shape[2]
        if frames > 1:
            raise ValueError(
                f"PXPO works on pictures; this latent is a video of {frames} frames. Set its "
                "length to 1, or connect an image latent."
            )
        if not has_frames(model):
            raise ValueError(
                "PXPO works on pictures; this latent is a video, and the model makes pictures. "
                "Connect an image latent."
            )
        start = start.squeeze(2)
    if start.ndim != 4:
        raise ValueError(
            f"PXPO works on pictures; this latent has no height and width ({list(start.shape)}). "
            "Connect an image latent."
        )
    return start


def sampled(latent: Mapping[str, Any], samples: Tensor) -> dict[str, Any]:
    """The LATENT with its samples replaced; it is no empty one any more."""
    return {k: v for k, v in latent.items() if k not in _RATIOS} | {"samples": samples}
