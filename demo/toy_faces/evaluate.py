"""Measures and shows Toy Faces through ComfyUI's own sampling code.

`python -m demo.toy_faces.evaluate --comfyui PATH` from the repository root writes
docs/images/toy_faces_grid.png and demo/toy_faces/weights/prompt_following.json.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .captions import full_caption, parse_caption
from .generator import PARTS
from .hair_style import SMALLEST_HAIR, fit_style_reader
from .palette import BACKGROUND_COLOURS, HAIR_COLOURS, RGB, SKIN_TONES, nearest
from .portrait import random_attributes
from .segmenter import load_segmenter, segment
from .training.comfy_path import use_comfyui
from .weights_io import WEIGHTS_DIR, write_json

log = logging.getLogger("toy_faces.evaluate")

FIGURES_FILE = "prompt_following.json"
GRID_FILE = Path("docs/images/toy_faces_grid.png")
MEASURED = MappingProxyType(
    {
        "hair_colour": ("hair", HAIR_COLOURS),
        "skin": ("skin", SKIN_TONES),
        "background": ("background", BACKGROUND_COLOURS),
    }
)
GRID_PROMPTS = (
    "portrait, long red hair, dark skin, green background",
    "portrait, short black hair, light skin, blue eyes, smiling, yellow background",
    "portrait, curly blonde hair, tan skin, pink background",
    "portrait, blue hair, ponytail, open mouth, grey background",
    "portrait, pink hair, bun, light skin, white shirt, blue background",
    "bald, dark skin, smiling, red shirt, yellow background",
    "purple background, green shirt, long blonde hair",
    "portrait, short grey hair, tan skin, neutral, black shirt, orange background",
    "portrait, curly green hair, light skin, green eyes, purple background",
    "portrait, brown hair, bun, dark skin, yellow shirt, pink background",
    "portrait, long black hair, tan skin, open mouth, red shirt, blue background",
    "portrait, red hair, ponytail, light skin, smiling, green background",
)
GRID_COLUMNS, GRID_PICTURES_PER_PROMPT = 6, 2
SEEDS_PER_PROMPT = 4


@dataclass(frozen=True)
class Settings:
    """Sampling settings, named as in a KSampler node."""

    steps: int = 20
    cfg: float = 3.5
    sampler: str = "euler"
    scheduler: str = "normal"
    negative: str = ""


def sample(
    bundle: tuple[Any, Any, Any], prompts: Sequence[str], seed: int, settings: Settings
) -> Tensor:
    """One picture per prompt, float32 [B, 256, 256, 3] in 0..1; equal prompts share a batch."""
    import comfy.sample

    model, clip, vae = bundle

    def encode(text: str) -> list[Any]:
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    negative = encode(settings.negative)
    pictures: list[Tensor] = [torch.empty(0)] * len(prompts)
    for prompt in dict.fromkeys(prompts):
        places = [i for i, p in enumerate(prompts) if p == prompt]
        latent = torch.zeros(len(places), 4, 32, 32)
        noise = torch.stack(
            [
                torch.randn(4, 32, 32, generator=torch.Generator().manual_seed(seed + i))
                for i in places
            ]
        )
        out = comfy.sample.sample(
            model,
            noise,
            settings.steps,
            settings.cfg,
            settings.sampler,
            settings.scheduler,
            encode(prompt),
            negative,
            latent,
            disable_pbar=True,
            # The sampler seeds its own noise: it must not repeat the initial noise, and torch
            # reads only the low 32 bits of a seed.
            seed=seed + places[0] + 2**31,
        )
        for place, picture in zip(places, vae.decode(out), strict=True):
            pictures[place] = picture
    return torch.stack(pictures)


def measured_colour(image: np.ndarray, labels: np.ndarray, part: str) -> RGB | None:
    """Median RGB (0..255) of a part, or None where it is (nearly) absent."""
    mask = labels == PARTS.index(part)
    if mask.mean() < SMALLEST_HAIR:
        return None
    r, g, b = np.median(image[mask], axis=0).tolist()
    return round(r), round(g), round(b)


def prompt_following(images: Tensor, prompts: Sequence[str], folder: Path) -> dict[str, Any]:
    """Share of pictures that show what their prompt asks for, read inside the segmenter's masks.

    A colour is right when the palette's nearest entry is the one asked for.
    """
    labels = segment(load_segmenter(folder), images).numpy()
    pixels = (images * 255).round().numpy()
    styles = fit_style_reader()
    fields = (*MEASURED, "hair_style")
    asked, right = dict.fromkeys(fields, 0), dict.fromkeys(fields, 0)
    for image, parts, prompt in zip(pixels, labels, prompts, strict=True):
        wanted = parse_caption(prompt)
        found: dict[str, str | None] = {"hair_style": styles.read(parts == PARTS.index("hair"))}
        for field, (part, palette) in MEASURED.items():
            colour = measured_colour(image, parts, part)
            found[field] = None if colour is None else nearest(colour, palette)
        for field in wanted.keys() & set(fields):
            asked[field] += 1
            right[field] += found[field] == wanted[field]
    shares = {field: round(right[field] / max(1, asked[field]), 4) for field in fields}
    return {"share_right": shares, "asked": asked}


def random_prompts(count: int, seed: int) -> list[str]:
    """Complete captions of random portraits."""
    rng = np.random.default_rng(seed)
    return [full_caption(random_attributes(rng)) for _ in range(count)]


def labelled_grid(images: Tensor, prompts: Sequence[str], columns: int) -> Image.Image:
    """Pictures in rows of `columns`, each over its prompt."""
    side, caption = 256, 44
    rows = -(-len(images) // columns)
    grid = Image.new("RGB", (columns * (side + 8) + 8, rows * (side + caption + 8) + 8), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(12)
    for i, (image, prompt) in enumerate(zip(images, prompts, strict=True)):
        x, y = 8 + (i % columns) * (side + 8), 8 + (i // columns) * (side + caption + 8)
        grid.paste(Image.fromarray((image * 255).round().to(torch.uint8).numpy()), (x, y))
        draw.multiline_text(
            (x, y + side + 3), wrapped(prompt, font, side), "black", font, spacing=1
        )
    return grid


def wrapped(text: str, font: Any, width: int) -> str:
    """Text broken at spaces so that no line is wider than `width` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) > width and lines[-1]:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def run(folder: Path, grid_file: Path, count: int, seed: int, settings: Settings) -> None:
    """Sample, measure, draw, write."""
    from .loader import load_toy_faces

    bundle = load_toy_faces(folder)
    shown = [p for p in GRID_PROMPTS for _ in range(GRID_PICTURES_PER_PROMPT)]
    grid_file.parent.mkdir(parents=True, exist_ok=True)
    labelled_grid(sample(bundle, shown, seed, settings), shown, GRID_COLUMNS).save(grid_file)
    log.info("wrote %s", grid_file)

    distinct = random_prompts(-(-count // SEEDS_PER_PROMPT), seed)
    prompts = [p for p in distinct for _ in range(SEEDS_PER_PROMPT)]
    start = time.perf_counter()
    images = sample(bundle, prompts, seed + 10_000, settings)
    seconds = time.perf_counter() - start
    figures = prompt_following(images, prompts, folder)
    figures |= {
        "pictures": len(prompts),
        "prompts": len(distinct),
        "seed": seed,
        "settings": vars(settings),
    }
    write_json(folder / FIGURES_FILE, figures)
    log.info("%.0f s for %d pictures: %s", seconds, len(prompts), figures["share_right"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.toy_faces.evaluate", description=__doc__)
    parser.add_argument("--comfyui", help="ComfyUI folder (default: COMFYUI_PATH)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS_DIR)
    parser.add_argument("--grid", type=Path, default=GRID_FILE)
    parser.add_argument("--count", type=int, default=240)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cfg", type=float, default=Settings.cfg)
    parser.add_argument("--steps", type=int, default=Settings.steps)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    use_comfyui(args.comfyui)
    settings = Settings(steps=args.steps, cfg=args.cfg)
    with torch.inference_mode():
        run(args.weights, args.grid, args.count, args.seed, settings)


if __name__ == "__main__":
    main()
