"""What the painting did: hair and change, on the marked pictures and on held-out seeds."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from pxpo_dev.server import Server
from pxpo_dev.workflow import Prompt, find

from demo.toy_faces.generator import PARTS
from demo.toy_faces.segmenter import Segmenter, segment
from pxpo_core.difference import change_by_area, difference

FACE = "skin"


def sample(server: Server, prompt: Prompt, seed: int, count: int, lora: str | None) -> torch.Tensor:
    """Pictures [count, H, W, 3] outside any run: the noise depends on the seed alone.

    lora: a file in the loras folder, or None for the model alone.
    """
    sampler = prompt[find(prompt, "PXPO_DDIMLogProbSampler")]["inputs"]
    base = prompt[find(prompt, "PXPO_Run")]["inputs"]["model"]
    decode = prompt[find(prompt, "VAEDecode")]["inputs"]
    latent = prompt[sampler["latent_image"][0]]
    names = (base[0], sampler["positive"][0], sampler["negative"][0])
    graph: Prompt = {name: prompt[name] for name in names}
    graph["latent"] = {**latent, "inputs": {**latent["inputs"], "batch_size": count}}
    model = base
    if lora is not None:
        model = ["lora", 0]
        inputs = {"model": base, "lora_name": lora, "strength_model": 1.0}
        graph["lora"] = {"class_type": "LoraLoaderModelOnly", "inputs": inputs}
    graph["sample"] = {
        "class_type": "PXPO_DDIMLogProbSampler",
        "inputs": {**sampler, "model": model, "latent_image": ["latent", 0], "seed": seed},
    }
    graph["decode"] = {"class_type": "VAEDecode", "inputs": {**decode, "samples": ["sample", 0]}}
    graph["show"] = {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}}
    shown = server.client.run(graph).ui("show", "images")
    pictures = [Image.open(io.BytesIO(server.client.picture(reference))) for reference in shown]
    return torch.stack([to_tensor(picture) for picture in pictures])


def to_tensor(picture: Image.Image) -> torch.Tensor:
    """[H, W, 3] in 0..1."""
    return torch.from_numpy(np.array(picture.convert("RGB"))).float() / 255.0


def compare(
    segmenter: Segmenter,
    before: torch.Tensor,
    after: torch.Tensor,
    marked: torch.Tensor | None = None,
) -> dict[str, Any]:
    """Hair before and after, and the mean change inside and outside of an area.

    marked: bool [B, H, W], what was painted; None: where the hair was before.
    """
    parts = [segment(segmenter, pictures) for pictures in (before, after)]
    hair = [(part == PARTS.index("hair")) for part in parts]
    area = hair[0] if marked is None else marked
    changes = difference(before, after)
    by_area = [change_by_area(one, where) for one, where in zip(changes, area, strict=True)]
    face = (parts[0] == PARTS.index(FACE)) & (parts[1] == PARTS.index(FACE))
    shares = [part.flatten(1).float().mean(1) for part in hair]
    return {
        "pictures": len(before),
        "hair_before": _round(shares[0].mean()),
        "hair_after": _round(shares[1].mean()),
        "hair_less_percent": _round(100.0 * (1.0 - shares[1].mean() / shares[0].mean()), 1),
        "pictures_with_less_hair": int((shares[1] < shares[0]).sum()),
        "change_inside": _round(_mean([one.inside for one in by_area])),
        "change_outside": _round(_mean([one.outside for one in by_area])),
        "change_of_skin": _round(changes[face].mean()),
        "hair_of_each": [[_round(a), _round(b)] for a, b in zip(shares[0], shares[1], strict=True)],
    }


def grid(rows: Mapping[str, torch.Tensor], columns: Sequence[int], size: int = 192) -> Image.Image:
    """Rows of pictures with their names above them."""
    title = 26
    height = len(rows) * (size + title)
    canvas = Image.new("RGB", (len(columns) * size, height), (24, 24, 27))
    draw = ImageDraw.Draw(canvas)
    for number, (name, pictures) in enumerate(rows.items()):
        top = number * (size + title)
        draw.text((8, top + 6), name, fill=(230, 230, 230), font_size=14)
        for place, column in enumerate(columns):
            pixels = (pictures[column] * 255).round().byte().numpy()
            picture = Image.fromarray(pixels).resize((size, size), Image.Resampling.LANCZOS)
            canvas.paste(picture, (place * size, top + title))
    return canvas


def stacked(upper: Image.Image, lower: Image.Image) -> Image.Image:
    """Two pictures, one above the other."""
    width = max(upper.width, lower.width)
    canvas = Image.new("RGB", (width, upper.height + lower.height), (24, 24, 27))
    canvas.paste(upper, (0, 0))
    canvas.paste(lower, (0, upper.height))
    return canvas


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else float("nan")


def _round(value: Any, digits: int = 4) -> float:
    return round(float(value), digits)
