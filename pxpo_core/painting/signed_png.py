"""Signed maps as 8-bit grey PNG files: 128 is nothing, 255 full like, 1 full dislike."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

ZERO, FULL = 128, 127
MOST_BYTES = 16 * 2**20


class MapInvalid(ValueError):
    """A map file is not a map of this picture."""


def encode_map(values: Tensor) -> bytes:
    """PNG file of a map [H, W] in -1..1."""
    grey = (values.clamp(-1.0, 1.0) * FULL).round().to(torch.int16) + ZERO
    buffer = io.BytesIO()
    Image.fromarray(grey.to(torch.uint8).cpu().numpy()).save(buffer, "PNG")
    return buffer.getvalue()


def decode_map(path: Path, width: int, height: int) -> Tensor:
    """The map [height, width] float32 in -1..1; its size is checked before it is decoded."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise MapInvalid(f"The map file {path.name} is too large ({size} bytes).")
    try:
        # PNG only: Pillow would try every format it knows.
        with Image.open(path, formats=["PNG"]) as image:
            if image.size != (width, height):
                raise MapInvalid(
                    f"The map file {path.name} is for a picture of {image.size[0]}x"
                    f"{image.size[1]}, and this one is {width}x{height}."
                )
            if image.mode != "L":
                raise MapInvalid(
                    f"The map file {path.name} must be 8-bit grey, and it is {image.mode}."
                )
            grey = np.asarray(image)
    except MapInvalid:
        raise
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MapInvalid(f"The map file {path.name} is not a readable PNG file.") from error
    values = torch.from_numpy(grey.astype(np.float32))
    return ((values - ZERO) / FULL).clamp(-1.0, 1.0)
