"""What a step costs, in time and memory, against the picture's size, at SD1.5's width.

    python3 scripts/bench.py resolution                      counts and times, about 5 CPU minutes
    python3 scripts/bench.py resolution --sizes              counts only, seconds

Two parts. Counted, for every size up to 2048: operations of a sampling and of a training step, and
the bytes a gradient keeps for one picture, without and with gradient checkpointing. The model then
has no numbers in it (torch's meta device), so a 2048x2048 step costs nothing. Measured, for
--sizes: the CPU seconds and the memory of a real step with random weights. The counted operations
divided by the measured rate of the largest measured size say what the other sizes cost.
"""

from __future__ import annotations

import argparse
import json
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch
from full_size.counting import Counted, count
from full_size.host import import_comfyui
from full_size.usage import gigabytes, measured
from pxpo_dev.comfyui import commit
from pxpo_dev.paths import REPO

RESULTS = REPO / "benchmarks" / "results"
COUNTED_SIZES = (256, 384, 512, 640, 768, 1024, 1536, 2048)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=int, nargs="*", default=[128, 256, 384])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS / "resolution.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    comfyui = import_comfyui()
    counted = {size: count(size) for size in sorted({*COUNTED_SIZES, *options.sizes})}
    timed = [step(size) for size in options.sizes] + one_round_at_512()
    result = {
        "model": "sd15", "cfg": 3.5, "lora": "rank 8, attention layers", "weights": "float32",
        "counted": [row(size, counts) for size, counts in counted.items()],
        "measured": timed,
        "extrapolated": extrapolate(counted, timed),
        "comfyui": comfyui.version, "torch": torch.__version__, "cpus": os.cpu_count(),
        "threads": options.threads, "load_average": os.getloadavg()[0], "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }  # fmt: skip
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))
    return 0


def row(size: int, counts: Counted) -> dict[str, Any]:
    plain, repeated = counts.memory.plain, counts.memory.checkpointed
    return {
        "size": size,
        "latent_pixels": (size // 8) ** 2,
        "sampling_tflop": round(counts.forward_flop / 1e12, 3),
        "training_tflop": round(counts.training_flop / 1e12, 3),
        "training_checkpointed_tflop": round(
            (counts.training_flop + counts.forward_flop) / 1e12, 3
        ),
        "kept_gb_per_picture": gigabytes(plain.needed(1)),
        "kept_checkpointed_gb_per_picture": gigabytes(repeated.needed(1)),
        "attention_share_of_flop": round(counts.attention_flop / counts.forward_flop, 3),
    }


def step(size: int) -> dict[str, Any]:
    """One real sampling step and one real training step; CPU seconds are those of all threads."""
    from full_size.models import build
    from full_size.work import first_policy, sample_rollout

    from pxpo_core.backends.comfy.train import train_round
    from pxpo_core.credit import advantage_map
    from pxpo_core.update import UpdateConfig

    with torch.inference_mode():
        full = build("sd15", torch.float32)
        policy = first_policy(full)
        with measured() as sampling:
            rollout = sample_rollout(full, policy, size, 2, 1, 3.5)
        advantage = advantage_map(torch.randn(1, size, size), (size // 8, size // 8))
        config = UpdateConfig(train_steps=1, steps_per_rollout=1)
        with measured() as training:
            train_round([rollout], [advantage], policy, {}, config, 1)
    made = {
        "size": size,
        "sampling_cpu_seconds": round(sampling.cpu_seconds / 2, 2),
        "training_cpu_seconds": round(training.cpu_seconds - sampling.cpu_seconds / 2, 2),
        "training_above_start_gb": gigabytes(training.peak_bytes - training.start_bytes),
        "peak_gb": gigabytes(training.peak_bytes),
    }
    print(made, flush=True)
    return made


def one_round_at_512() -> list[dict[str, Any]]:
    """The step of the full-width round, if that was measured."""
    path = RESULTS / "full_width.json"
    rounds = json.loads(path.read_text())["rounds"] if path.exists() else []
    return [
        {
            "size": 512,
            "sampling_cpu_seconds": r["cpu_seconds_per_sampling_step"],
            "training_cpu_seconds": round(
                (r["training"]["cpu_seconds"] - r["cpu_seconds_per_sampling_step"])
                / (r["images"] * r["train_steps"]), 2,
            ),
            "training_above_start_gb": r["training"]["above_start_gb"],
            "peak_gb": r["peak_gb"],
            "source": "full_width.json",
        }
        for r in rounds
        if (r["model"], r["size"]) == ("sd15", 512)
    ]  # fmt: skip


def extrapolate(counted: dict[int, Counted], timed: list[dict[str, Any]]) -> dict[str, Any]:
    """CPU seconds of every size, at the rate of the largest measured one; how wrong it is there."""
    if not timed:
        return {}
    largest = max(timed, key=lambda made: made["size"])
    at = counted[largest["size"]]
    rate = at.forward_flop / largest["sampling_cpu_seconds"]
    training_rate = at.training_flop / largest["training_cpu_seconds"]

    def seconds(size: int) -> dict[str, float]:
        counts = counted[size]
        return {
            "size": size,
            "sampling_cpu_seconds": round(counts.forward_flop / rate, 1),
            "training_cpu_seconds": round(counts.training_flop / training_rate, 1),
            "training_checkpointed_cpu_seconds": round(
                counts.training_flop / training_rate + counts.forward_flop / rate, 1
            ),
        }

    return {
        "from_size": largest["size"],
        "sampling_gflop_per_cpu_second": round(rate / 1e9, 1),
        "training_gflop_per_cpu_second": round(training_rate / 1e9, 1),
        "seconds": [seconds(size) for size in counted],
        "error_at_measured_sizes": {
            str(made["size"]): {
                kind: round(seconds(made["size"])[kind] / made[kind] - 1.0, 2)
                for kind in ("sampling_cpu_seconds", "training_cpu_seconds")
            }
            for made in timed
        },
    }


if __name__ == "__main__":
    raise SystemExit(main())
