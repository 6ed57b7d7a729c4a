"""One whole round on the real architectures at full width, with random weights, on the CPU.

    python3 scripts/bench.py full_width                                SD1.5, 512x512
    python3 scripts/bench.py full_width --model sdxl --size 512 --weights bfloat16

A round is what a person's one press does: sample with classifier-free guidance, reward, update.
Weights are random, so the pictures are noise; times and memory are those of trained ones. cpu
seconds are those of all threads: what is left of a measurement when other programs run beside it.
Each model and size replaces its own row of the result.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from full_size.host import import_comfyui
from full_size.usage import gigabytes, measured, resident_bytes
from pxpo_dev.comfyui import commit
from pxpo_dev.paths import REPO

RESULT = REPO / "benchmarks" / "results" / "full_width.json"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=("sd15", "sdxl"), default="sd15")
    parser.add_argument("--size", type=int, default=512, help="of the picture, in pixels")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10, help="sampling steps, T")
    parser.add_argument("--train-steps", type=int, default=2, help="trained steps, K")
    parser.add_argument("--cfg", type=float, default=3.5)
    parser.add_argument("--weights", choices=("float32", "bfloat16", "float16"), default="float32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    comfyui = import_comfyui()
    with torch.inference_mode():
        row = one_round(options)
    row |= {
        "comfyui": comfyui.version, "torch": torch.__version__, "cpus": os.cpu_count(),
        "load_average": os.getloadavg()[0], "machine": platform.machine(),
        "commit": commit(), "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }  # fmt: skip
    rows = json.loads(options.out.read_text())["rounds"] if options.out.exists() else []
    rows = [r for r in rows if (r["model"], r["size"]) != (row["model"], row["size"])] + [row]
    options.out.write_text(json.dumps({"rounds": rows}, indent=2) + "\n")
    print(json.dumps(row))
    return 0


def one_round(options: argparse.Namespace) -> dict[str, Any]:
    from full_size.models import build
    from full_size.work import first_policy, sample_rollout

    from pxpo_core.backends.comfy.train import train_round
    from pxpo_core.credit import advantage_map
    from pxpo_core.update import UpdateConfig

    with measured() as building:
        full = build(options.model, getattr(torch, options.weights))
        policy = first_policy(full)
    loaded = resident_bytes()
    print(f"{options.model}: {full.parameters / 1e6:.0f} M parameters, {gigabytes(loaded)} GB")
    with measured() as sampling:
        rollout = sample_rollout(
            full, policy, options.size, options.steps, options.images, options.cfg
        )
    print(f"sampled: {sampling.as_dict()}", flush=True)
    reward = torch.randn(
        options.images, options.size, options.size, generator=torch.Generator().manual_seed(3)
    )
    plans: list[Any] = []
    config = UpdateConfig(train_steps=options.train_steps, steps_per_rollout=1)
    advantage = advantage_map(reward, (options.size // 8, options.size // 8))
    with measured() as training:
        result = train_round([rollout], [advantage], policy, {}, config, 1, planned=plans.append)
    plan = plans[0]
    moved = max(
        float((result.policy.tensors[n] - t).abs().max()) for n, t in policy.tensors.items()
    )
    if not moved > 0.0:
        raise SystemExit("The round changed no weight.")
    calls = options.images * options.train_steps
    return {
        "model": options.model, "size": options.size, "parameters": full.parameters,
        "weights": options.weights, "images": options.images, "sampling_steps": options.steps,
        "train_steps": options.train_steps, "cfg": options.cfg, "threads": options.threads,
        "lora_parameters": sum(t.numel() for t in policy.tensors.values()),
        "building": building.as_dict(), "loaded_gb": gigabytes(loaded),
        "sampling": sampling.as_dict(), "training": training.as_dict(),
        "cpu_seconds_per_sampling_step": round(sampling.cpu_seconds / options.steps, 2),
        "cpu_seconds_per_trained_step": round(training.cpu_seconds / calls, 2),
        "peak_gb": gigabytes(max(building.peak_bytes, sampling.peak_bytes, training.peak_bytes)),
        "round_wall_seconds": round(sampling.wall_seconds + training.wall_seconds, 1),
        "round_cpu_seconds": round(sampling.cpu_seconds + training.cpu_seconds, 1),
        "plan": plan.text, "plan_needed_gb": gigabytes(plan.needed),
        "gradient_checkpointing": plan.checkpointing, "largest_weight_change": moved,
        "gradient_norm": result.grad_norm,
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
