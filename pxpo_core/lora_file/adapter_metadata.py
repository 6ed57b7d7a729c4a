"""Alphas that diffusers keeps in a file's metadata instead of in tensors."""

import json
import math
from collections.abc import Mapping
from typing import Any

from .errors import LoRAFileError
from .spellings import Place

_KEY = "lora_adapter_metadata"
_MODELS = ("unet.", "transformer.")


def adapter_scales(
    metadata: Mapping[str, str], ranks: Mapping[Place, int], known: Mapping[str, Place]
) -> dict[Place, float]:
    """The scale of each place, as PEFT's settings in the metadata say; empty without settings.

    alpha / r, or alpha / sqrt(r) with use_rslora. Raises LoRAFileError for settings that no plain
    LoRA has, or that are not numbers.
    """
    settings = _settings(metadata)
    if "lora_alpha" not in settings:
        return {}
    if settings.get("use_dora"):
        raise LoRAFileError("This file holds a DoRA, which PXPO cannot train on.")
    alphas = dict.fromkeys(ranks, _number(settings["lora_alpha"]))
    pattern = settings.get("alpha_pattern")
    for name, value in pattern.items() if isinstance(pattern, dict) else ():
        for spelling in (f"unet.{name}", f"transformer.{name}", str(name)):
            if known.get(spelling) in alphas:
                alphas[known[spelling]] = _number(value)
    power = 0.5 if settings.get("use_rslora") else 1.0
    return {place: alpha / ranks[place] ** power for place, alpha in alphas.items()}


def _settings(metadata: Mapping[str, str]) -> dict[str, Any]:
    """PEFT's settings of the diffusion model; nothing when there are none to be read."""
    try:
        values = json.loads(metadata.get(_KEY, "{}"))
    except (ValueError, RecursionError):
        return {}
    if not isinstance(values, dict):
        return {}
    return {
        key.removeprefix(model): value
        for model in _MODELS
        for key, value in values.items()
        if key.startswith(model)
    }


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise LoRAFileError(
            f"The file's metadata has a lora_alpha that is no number: {value!r:.80}."
        )
    number = float(value) if abs(value) < 1e30 else math.inf
    if not (math.isfinite(number) and number > 0.0):
        raise LoRAFileError(f"The file's metadata has the lora_alpha {value!r:.80}.")
    return number
