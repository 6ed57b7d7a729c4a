"""How well a pixel's own noise explains its reward, against the picture's size.

    python3 scripts/bench.py credit_resolution            seconds

Pictures are random fields with the spectrum of photographs (power 1 / frequency^2, per picture and
not per pixel: a larger picture adds detail and keeps what is there), and the model is the exact
denoiser of such fields, so nothing is trained and nothing is approximated. They are sampled with
our step (eta 1). The reward of a pixel is the picture's value averaged over a feature around it:
`pixel`, one latent pixel; `feature`, a sixteenth of the picture's width, whatever its size. Both
have the picture's mean over the batch removed, as an update does.

The gradient of the one parameter "brighter everywhere" from one picture is g = sum over steps and
pixels of advantage x weight x noise. signal_to_noise: mean of g / its standard deviation, over the
batch; it is what one picture tells, and grows with the root of the number of pictures. One value
per credit radius (latent pixels; null: the whole picture, DDPO).
"""

from __future__ import annotations

import argparse
import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from pxpo_dev.comfyui import commit
from pxpo_dev.paths import REPO
from torch import Tensor

from pxpo_core.credit import blur, leave_one_out, scale_and_clip
from pxpo_core.objective import step_weights
from pxpo_core.rollout import sample_trajectory

RESULT = REPO / "benchmarks" / "results" / "credit_resolution.json"
RADII = (0.0, 1.0, 2.0, 4.0, 8.0, math.inf)
FEATURE = 1.0 / 16.0
STEPS = 16
SIGMA_MAX, SIGMA_MIN, RHO = 14.6, 0.03, 7.0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[256, 512, 768, 1024, 1536])
    parser.add_argument("--pictures", type=int, default=512)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [row(size, options.pictures) for size in options.sizes]
    result = {
        "rows": rows, "steps": STEPS, "pictures": options.pictures, "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0


def row(size: int, pictures: int) -> dict[str, Any]:
    cells = size // 8
    power = spectrum(cells)
    sigmas = [*karras(), 0.0]
    values: dict[str, list[Tensor]] = {}
    batch = 32
    for start in range(0, pictures, batch):
        generator = torch.Generator().manual_seed(start)
        x = torch.randn(batch, 1, cells, cells, generator=generator)
        noises = torch.randn(STEPS, batch, 1, cells, cells, generator=generator)
        trajectory = sample_trajectory(
            lambda x, sigma, samples: denoise(x, sigma, power), sigmas[0] * x, noises, sigmas,
            "vp", 1.0,
        )  # fmt: skip
        steps = trajectory.steps
        trainable = trajectory.trainable
        weights = step_weights([steps[t] for t in trainable])
        # What an update multiplies the advantage with, where the prediction moves by one.
        pull = sum(
            weight * steps[t].gain / steps[t].std * trajectory.noises[t]
            for t, weight in zip(trainable, weights, strict=True)
        )[:, 0]
        picture = trajectory.x_0[:, 0]
        for kind, reward in (("pixel", picture), ("feature", blur(picture, FEATURE * cells / 2))):
            advantage = leave_one_out(reward)
            for radius in RADII:
                scaled = scale_and_clip(blur(advantage, radius), None, painted=False).values
                key = f"{kind} {radius}"
                values.setdefault(key, []).append((scaled * pull).sum(dim=(1, 2)))
    made: dict[str, Any] = {"size": size, "latent_pixels": cells**2}
    for kind in ("pixel", "feature"):
        made[kind] = [
            {
                "credit_radius": radius if math.isfinite(radius) else None,
                "signal_to_noise": round(float(g.mean() / g.std()), 3),
            }
            for radius in RADII
            for g in [torch.cat(values[f"{kind} {radius}"])]
        ]
    print(made, flush=True)
    return made


def spectrum(cells: int) -> Tensor:
    """Power of each frequency of an orthonormal transform, for frequencies per picture."""
    frequency = torch.fft.fftfreq(cells, 1.0 / cells)
    squared = frequency[:, None].square() + frequency[None].square()
    content = 1.0 / squared.clamp(min=1.0)
    content[0, 0] = 1.0
    # So that 256x256 pictures have the variance 1 that latents have.
    return content * (cells**2 * VARIANCE)


def _variance() -> float:
    frequency = torch.fft.fftfreq(32, 1.0 / 32)
    squared = frequency[:, None].square() + frequency[None].square()
    return 1.0 / float((1.0 / squared.clamp(min=1.0)).sum())


VARIANCE = _variance()


def denoise(x: Tensor, sigma: float, power: Tensor) -> Tensor:
    """The mean of all pictures that x can be a noisy version of: Wiener's filter."""
    filtered = torch.fft.fft2(x, norm="ortho") * (power / (power + sigma**2))
    return torch.fft.ifft2(filtered, norm="ortho").real


def karras() -> list[float]:
    ramp = [i / (STEPS - 1) for i in range(STEPS)]
    low, high = SIGMA_MIN ** (1 / RHO), SIGMA_MAX ** (1 / RHO)
    return [(high + r * (low - high)) ** RHO for r in ramp]


if __name__ == "__main__":
    raise SystemExit(main())
