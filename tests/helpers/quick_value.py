"""A guess from one round alone."""

from torch import Tensor

from pxpo_core.value import Value, ValueSums


def fit_value(latents: Tensor, maps: Tensor) -> Value:
    """From pictures [B, C, h, w] and maps [B, h, w]."""
    return ValueSums.begin(latents).after(latents, maps).fitted()
