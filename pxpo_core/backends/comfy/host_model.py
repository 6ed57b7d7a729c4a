"""What the algorithm must know about a ComfyUI MODEL: its noise family and its identity."""

from typing import TYPE_CHECKING

import comfy.model_sampling

from ...fingerprint import fingerprint as state_fingerprint
from ...transition import Family

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def noise_family(model: "ModelPatcher") -> Family:
    """ "vp" for eps / v / EDM / Cosmos models, "flow" for rectified flow.

    Raises ValueError for a parametrisation the transition does not describe.
    """
    sampling, host = model.get_model_object("model_sampling"), comfy.model_sampling
    image_to_image = _classes("IMG_TO_IMG", "IMG_TO_IMG_FLOW")
    if not isinstance(sampling, image_to_image):
        if isinstance(sampling, host.CONST):
            return "flow"
        # Cosmos is a flow in its network only: its latents are x_0 + sigma noise like the others'.
        if isinstance(sampling, (host.EPS, *_classes("COSMOS_RFLOW"))):
            return "vp"
    raise ValueError(
        f"PXPO cannot train this kind of model yet (its sampling is {_parametrisation(sampling)}). "
        "Models with eps, v or EDM prediction and flow models work."
    )


def _classes(*names: str) -> tuple[type, ...]:
    """Those parametrisations that this host knows."""
    return tuple(vars(comfy.model_sampling)[n] for n in names if hasattr(comfy.model_sampling, n))


def _parametrisation(sampling: object) -> str:
    """The host's word for it: its class is made of a schedule and a parametrisation."""
    named = [c.__name__ for c in type(sampling).__mro__ if c.__name__.isupper()]
    return named[0] if named else type(sampling).__name__


def has_frames(model: "ModelPatcher") -> bool:
    """Whether its latents are videos [B, C, frames, h, w]; a picture is one of one frame."""
    return int(getattr(model.get_model_object("latent_format"), "latent_dimensions", 2)) == 3


def noise_scale(model: "ModelPatcher") -> float:
    """The factor newer flow models put on fresh noise; 1 elsewhere."""
    return float(getattr(model.get_model_object("model_sampling"), "noise_scale", 1.0))


def fingerprint(model: "ModelPatcher") -> str:
    """Identity of the base model, whatever LoRAs are loaded: 16 hex digits."""
    return state_fingerprint(model.model.diffusion_model.state_dict())
