"""Two processes on the CPU against one: equal updates, speed-up, and what they send each other.

    python3 scripts/bench.py accelerate_scaling

A small random SD1.5-type pipeline is trained for a few rounds by one process and by two that
`accelerate launch` starts, one thread each. Timings leave loading and the first round out.
speedup: processor seconds of the single process over those of the busier of the two, which other
programs on the machine change little; waiting_share is the part of the wall-clock time spent in
sums. wall_speedup: by the clock, which means something with a load_average below the cores only.
update_difference: of the weights after one round from equal weights, relative to the update; round
2 starts from the rounds 1 and holds their difference too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import safetensors.torch
import tiny_pipelines
import torch
from pxpo_dev.launch import import_torchvision
from pxpo_dev.paths import REPO

from pxpo_core.run import RunStore
from pxpo_core.training.config import read_config

RESULT = REPO / "benchmarks" / "results" / "accelerate.json"
CONFIG = """
[model]
path = "sd15"
[run]
name = "bench"
folder = "{folder}"
rounds = {rounds}
[lora]
r = 8
[sampling]
prompts = ["a cat", "a red house"]
images_per_prompt = {images}
width = {size}
height = {size}
steps = 8
cfg = 3.0
[reward]
rule = "channel level"
[update]
learning_rate = 0.05
train_steps = 4
steps_per_rollout = 1
micro_batch = 4
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--images", type=int, default=8, help="pictures per prompt, of 2 prompts")
    parser.add_argument("--size", type=int, default=128, help="width and height in pixels")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        return work(options.worker)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options)
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))
    return 0 if result["pass"] else 1


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    import_torchvision()
    tiny_pipelines.sd15(folder).save_pretrained(folder / "sd15")
    load = [os.getloadavg()[0]]
    alone = start(folder, "alone", options, 1)
    load.append(os.getloadavg()[0])
    together = start(folder, "together", options, 2)
    load.append(os.getloadavg()[0])
    updates, gradients = differences(folder)
    wall = [sum(seconds(folder, name)[1:]) for name in ("alone", "together")]
    cpu = [max(worker["cpu"] for worker in workers) for workers in (alone, together)]
    trained = together[0]["weights"]
    sent = together[0]["bytes"] / options.rounds
    return {
        "processes": 2,
        "threads_per_process": 1,
        "speedup": round(cpu[0] / cpu[1], 2),
        "wall_speedup": round(wall[0] / wall[1], 2),
        "seconds_per_round": [round(w / (options.rounds - 1), 2) for w in wall],
        "cpu_seconds_per_round": [round(c / (options.rounds - 1), 2) for c in cpu],
        "waiting_share": round(together[0]["waited"] / together[0]["wall"], 3),
        "load_average": [round(value, 1) for value in load],
        "cores": os.cpu_count(),
        "lora_weights": trained,
        "gradient_bytes_per_update": 4 * trained,
        "other_bytes_per_round": round(sent) - 4 * trained,
        "messages_per_round": together[0]["messages"] / options.rounds,
        "update_difference": updates[0],
        "update_difference_round_2": updates[1],
        "gradient_difference": gradients[0],
        "gradient_difference_round_2": gradients[1],
        "weights_equal_on_both_ranks": together[0]["digest"] == together[1]["digest"],
        "images_per_round": 2 * options.images,
        "pixels": [options.size, options.size],
        "pass": max(gradients) <= 1e-4 and together[0]["digest"] == together[1]["digest"],
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def start(
    folder: Path, name: str, options: argparse.Namespace, processes: int
) -> list[dict[str, Any]]:
    """Train in `processes` processes; what each of them reports."""
    config = folder / f"{name}.toml"
    values = {"rounds": options.rounds, "images": options.images, "size": options.size}
    config.write_text(CONFIG.format(folder=name, **values), encoding="utf-8")
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes"]
        command += [str(processes)]
    command += [str(Path(__file__).resolve()), "--worker", str(config)]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "GOMP_SPINCOUNT": "0"}
    subprocess.run(command, env=variables, check=True, cwd=folder)
    reports = sorted(folder.glob(f"{name}.*.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in reports]


def work(config: Path) -> int:
    """One process of a training: reports its times and its messages beside the configuration."""
    import_torchvision()
    torch.set_num_threads(1)
    from pxpo_core.backends.accelerate_workers import AccelerateWorkers
    from pxpo_core.training import loop
    from pxpo_core.workers import SingleProcess, Workers

    class Timed(AccelerateWorkers):
        """Notes how long this process was in a sum, waiting for the other included."""

        waited = 0.0

        def sum(self, values: torch.Tensor) -> torch.Tensor:
            start = time.monotonic()
            total = super().sum(values)
            self.waited += time.monotonic() - start
            return total

    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    shared = Timed() if several else None
    workers: Workers = shared or SingleProcess()
    settings = read_config(config)
    marks: list[tuple[float, float, float]] = []
    write = loop.Trainer._write

    def noted(trainer: Any, head: Any, record: Any) -> Any:
        after = write(trainer, head, record)
        marks.append((time.process_time(), time.monotonic(), shared.waited if shared else 0.0))
        return after

    loop.Trainer._write = noted  # type: ignore[method-assign]
    head = loop.train(settings, workers, "cpu")
    assert head.policy is not None
    cpu, wall, waited = (last - first for first, last in zip(marks[0], marks[-1], strict=True))
    report = {
        "cpu": cpu,
        "wall": wall,
        "waited": waited,
        "bytes": shared.bytes if shared else 0,
        "messages": shared.messages if shared else 0,
        "weights": sum(tensor.numel() for tensor in head.policy.tensors.values()),
        "digest": head.policy.digest,
    }
    path = config.parent / f"{config.stem}.{workers.rank}.json"
    path.write_text(json.dumps(report), encoding="utf-8")
    return 0


def seconds(folder: Path, name: str) -> list[float]:
    """Wall-clock seconds of each round."""
    head = RunStore(folder / name).head("bench")
    assert head is not None
    return [float(entry["seconds"]) for entry in head.history]


def differences(folder: Path) -> tuple[list[float], list[float]]:
    """Relative differences of rounds 1 and 2: of the weights' change, and of Adam's gradients."""
    names = ("alone", "together")
    stores = [RunStore(folder / name) for name in names]

    def weights(store: RunStore, number: int) -> torch.Tensor:
        tensors = store.policy("bench", number).tensors
        return torch.cat([tensors[name].flatten().double() for name in sorted(tensors)])

    first = [weights(store, 1) for store in stores]
    second = [weights(store, 2) for store in stores]
    # Round 1 starts from equal weights, and only "up", which is 0 there, moves.
    up = [
        torch.cat([t.flatten().double() for n, t in sorted(p.tensors.items()) if "lora_up" in n])
        for p in (store.policy("bench", 1) for store in stores)
    ]
    moved = [after - before for after, before in zip(second, first, strict=True)]
    gradients = [
        relative(*(averaged(folder / name, number) for name in names)) for number in (1, 2)
    ]
    return [relative(*up), relative(*moved)], gradients


def averaged(runs: Path, number: int) -> torch.Tensor:
    """Adam's running mean of the gradients after a round."""
    file = runs / "bench" / f"round_{number:04d}" / "optimizer.safetensors"
    tensors = safetensors.torch.load_file(file)
    return torch.cat(
        [tensors[name].flatten().double() for name in sorted(tensors) if name.endswith("exp_avg")]
    )


def relative(reference: torch.Tensor, other: torch.Tensor) -> float:
    return float((other - reference).norm() / reference.norm())


def commit() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    found = subprocess.run(
        [git, "rev-parse", "HEAD"], cwd=REPO, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or None


if __name__ == "__main__":
    sys.exit(main())
