"""Trains Toy Faces from nothing: `python -m demo.toy_faces.train --comfyui PATH --work FOLDER`.

Stages: autoencoder, latents, U-Net with text encoder, segmenter. Each leaves its result in the work
folder, so an interrupted run goes on where it stopped (the diffusion stage every 250 steps). The
same seed and scale give the same files on the same machine. Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import functools
import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from .segmenter import Segmenter
from .training.comfy_path import use_comfyui
from .training.common import StageReport, channels_last, log
from .training.data import PortraitSet, make_portraits
from .training.segmenter_stage import SegmenterConfig, part_ious, train_segmenter
from .training.vae_stage import VAEConfig, mean_absolute_error, reconstruct, train_vae
from .vae import ToyVAE
from .weights_io import (
    METADATA_FILE,
    SEGMENTER_FILE,
    TEXT_ENCODER_FILE,
    UNET_FILE,
    VAE_FILE,
    WEIGHT_FILES,
    WEIGHTS_DIR,
    save_weights,
    write_json,
)

if TYPE_CHECKING:
    from .training.latents_stage import LatentSet

# Seeds of portraits: held-out figures, autoencoder and segmenter, diffusion. The ranges never meet.
HELD_OUT_SEED, PICTURE_SEED, LATENT_SEED = 0, 1_000_000, 2_000_000


_Stage = TypeVar("_Stage", VAEConfig, SegmenterConfig)


@dataclass(frozen=True)
class Plan:
    """How much of everything one run makes; `scaled` shrinks it for tests."""

    seed: int = 0
    pictures: int = 3000
    latents: int = 14000
    held_out: int = 128
    vae: VAEConfig = field(default_factory=VAEConfig)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    diffusion_steps: int = 2000
    threads: int = 2

    def scaled(self, scale: float) -> Plan:
        """The same plan with fewer pictures and steps; no batch is larger than all of them."""

        def n(count: int) -> int:
            return max(2, round(count * scale))

        def fitting(config: _Stage) -> _Stage:
            batch = min(config.batch, n(self.pictures))
            return replace(config, steps=n(config.steps), batch=batch)

        return replace(
            self,
            pictures=n(self.pictures),
            latents=n(self.latents),
            held_out=n(self.held_out),
            vae=fitting(self.vae),
            segmenter=fitting(self.segmenter),
            diffusion_steps=n(self.diffusion_steps),
        )


class WorkFolder:
    """Finished stages on disk; refuses results of another plan."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        stamp = path / "plan.txt"
        if stamp.is_file() and stamp.read_text(encoding="utf-8") != repr(plan):
            raise SystemExit(f"{path} holds a run of another plan: empty it or give another --work")
        stamp.write_text(repr(plan), encoding="utf-8")

    def get(self, name: str) -> Any | None:
        """What a finished stage left, or None."""
        file = self.path / f"{name}.pt"
        # Written by this program into a folder of the user's own; holds dataclasses too.
        return torch.load(file, weights_only=False) if file.is_file() else None

    def put(self, name: str, value: Any) -> None:
        """Keep a finished stage's result."""
        partial = self.path / f"{name}.part"
        torch.save(value, partial)
        partial.replace(self.path / f"{name}.pt")


def vae_stage(
    plan: Plan, work: WorkFolder, pictures: Callable[[], PortraitSet]
) -> tuple[ToyVAE, dict[str, Any], StageReport]:
    """The trained and centred autoencoder, and the facts of its latent format."""
    from .training.latents_stage import fit_latent_format

    kept = work.get("vae")
    if kept is None:
        vae, report = train_vae(pictures(), plan.vae, plan.seed)
        facts = fit_latent_format(vae, pictures().images[:512])
        kept = {"state": vae.state_dict(), "facts": facts, "report": report}
        work.put("vae", kept)
    vae = channels_last(ToyVAE()).eval()
    vae.load_state_dict(kept["state"])
    return vae, kept["facts"], kept["report"]


def latents_stage(
    plan: Plan, work: WorkFolder, vae: ToyVAE, scale: float
) -> tuple[LatentSet, StageReport]:
    """The diffusion training set."""
    from .training.latents_stage import make_latents

    kept = work.get("latents")
    if kept is None:
        kept = make_latents(vae, scale, LATENT_SEED, plan.latents)
        work.put("latents", kept)
    return kept


def diffusion_stage(
    plan: Plan, work: WorkFolder, out: Path, data: LatentSet, facts: dict[str, Any]
) -> StageReport:
    """Train U-Net and text encoder; their weights are exported at every checkpoint."""
    from .training.diffusion_stage import DiffusionConfig, Policy, train_diffusion

    def export(policy: Policy) -> None:
        save_weights(out / UNET_FILE, policy.unet, {"latent_format": facts})
        save_weights(out / TEXT_ENCODER_FILE, policy.text)

    batch = min(DiffusionConfig.batch, plan.latents)
    config = DiffusionConfig(steps=plan.diffusion_steps, batch=batch)
    policy, report = train_diffusion(data, config, plan.seed, work.path / "diffusion.ckpt", export)
    export(policy)
    return report


def segmenter_stage(
    plan: Plan, work: WorkFolder, vae: ToyVAE, pictures: Callable[[], PortraitSet]
) -> tuple[Segmenter, StageReport]:
    """The trained segmenter."""
    kept = work.get("segmenter")
    if kept is None:
        segmenter, report = train_segmenter(pictures(), vae, plan.segmenter, plan.seed)
        kept = {"state": segmenter.state_dict(), "report": report}
        work.put("segmenter", kept)
    segmenter = channels_last(Segmenter()).eval()
    segmenter.load_state_dict(kept["state"])
    return segmenter, kept["report"]


def run(plan: Plan, work: WorkFolder, out: Path) -> None:
    """All stages, then metadata.json."""
    torch.set_num_threads(plan.threads)
    out.mkdir(parents=True, exist_ok=True)

    @functools.cache
    def pictures() -> PortraitSet:
        return make_portraits(PICTURE_SEED, plan.pictures)

    vae, facts, vae_report = vae_stage(plan, work, pictures)
    save_weights(out / VAE_FILE, vae)
    latents, latents_report = latents_stage(plan, work, vae, facts["scale_factor"])
    diffusion_report = diffusion_stage(plan, work, out, latents, facts)
    segmenter, segmenter_report = segmenter_stage(plan, work, vae, pictures)
    save_weights(out / SEGMENTER_FILE, segmenter)

    held_out = make_portraits(HELD_OUT_SEED, plan.held_out)
    decoded = reconstruct(vae, held_out.images)
    reports = (vae_report, latents_report, diffusion_report, segmenter_report)
    write_json(
        out / METADATA_FILE,
        {
            "plan": asdict(plan),
            "stages": [asdict(report) for report in reports],
            "vae_mean_absolute_error": mean_absolute_error(vae, held_out.images),
            "iou_drawn": part_ious(segmenter, held_out.images, held_out.labels),
            "iou_reconstructed": part_ious(segmenter, decoded, held_out.labels),
            "latent_format": facts,
            "bytes": {name: (out / name).stat().st_size for name in WEIGHT_FILES},
            "torch": torch.__version__,
        },
    )
    log.info("weights written to %s", out)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.toy_faces.train", description=__doc__)
    parser.add_argument("--comfyui", help="ComfyUI folder (default: COMFYUI_PATH)")
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate results")
    parser.add_argument("--out", type=Path, default=WEIGHTS_DIR, help="folder for the weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0, help="share of pictures and steps")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    use_comfyui(args.comfyui)
    plan = Plan(seed=args.seed).scaled(args.scale)
    run(plan, WorkFolder(args.work, plan), args.out)


if __name__ == "__main__":
    main()
