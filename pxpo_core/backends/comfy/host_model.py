"""What the algorithm must know about a ComfyUI MODEL: its noise family and its identity."""

from typing import TYPE_CHECKING

import comfy.model_sampling

from ...fingerprint import fingerprint as state_fingerprint
from ...transition import Family

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def noise_family(model: "ModelPatcher") -> Family:
    """ "vp" for eps / v / EDM models, "flow" for rectified flow.

    Raises ValueError for a parametrisation the transition does not describe.
    """
    sampling = model.get_model_object("model_sampling")
    if isinstance(sampling, comfy.model_sampling.CONST):
        return "flow"
    image_to_image = getattr(comfy.model_sampling, "IMG_TO_IMG", ())
    if isinstance(sampling, comfy.model_sampling.EPS) and not isinstance(sampling, image_to_image):
        return "vp"
    raise ValueError(
        f"PXPO cannot train this kind of model yet (its sampling is {type(sampling).__name__}). "
        "Models with eps, v or EDM prediction and flow models work."
    )


def noise_scale(model: "ModelPatcher") -> float:
    """The factor newer flow models put on fresh noise; 1 elsewhere."""
    return float(getattr(model.get_model_object("model_sampling"), "noise_scale", 1.0))


def fingerprint(model: "ModelPatcher") -> str:
    """Identity of the base model, whatever LoRAs are loaded: 16 hex digits."""
    return state_fingerprint(model.model.diffusion_model.state_dict())
