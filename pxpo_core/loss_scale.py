"""Loss scaling: a gradient that half precision can carry."""

import math
from collections.abc import Iterable

from torch import nn

ATTEMPTS = 3
SMALLER = 2.0**8


def scales_to_try(latent_values: float) -> list[float]:
    """Powers of two to multiply a loss by that is a mean over so many latent values, largest first.

    The mean leaves 1e-5 and less for each of them, which a model computed in float16 rounds to
    nothing on the way back; smaller scales are for gradients that then overflow (Micikevicius et
    al. 2018). In float32 and bfloat16 a power of two changes no bit.
    """
    scales = [2.0 ** max(0, math.floor(math.log2(latent_values)))]
    while scales[-1] > 1.0 and len(scales) < ATTEMPTS:
        scales.append(max(1.0, scales[-1] / SMALLER))
    return scales


def unscale(parameters: Iterable[nn.Parameter], scale: float) -> None:
    """Divide every .grad by the scale its loss had."""
    for parameter in parameters:
        if parameter.grad is not None:
            parameter.grad.div_(scale)
