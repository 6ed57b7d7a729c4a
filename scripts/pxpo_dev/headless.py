"""The demo without a browser: N rounds over the HTTP API, then the figures."""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from PIL import Image

from . import report
from .comfyui import ComfyUI, base_directory, commit
from .environment import Environment
from .paths import EXAMPLE_WORKFLOW, HOME
from .server import Server
from .workflow import Prompt, changed, find, load, to_api

RUN_NAME = "demo"
EVAL_BATCH = 32
EVAL_SEED = 1_000_003  # far from the training seeds
SHOWN = 16  # pairs in before_after.png


@dataclass(frozen=True)
class Evaluation:
    """Rewards and pictures of the evaluation set, in a fixed order."""

    rewards: list[float]
    pictures: list[Image.Image]

    def summary(self) -> dict[str, float | int]:
        """Mean, standard deviation over the images, and their number."""
        return {**moments(self.rewards), "n": len(self.rewards)}


def moments(values: list[float]) -> dict[str, float]:
    """Mean and sample standard deviation."""
    return {
        "mean": statistics.fmean(values),
        "sd": statistics.stdev(values) if len(values) > 1 else 0.0,
    }


def run(
    options: argparse.Namespace, env: Environment, comfy: ComfyUI, device: tuple[str, ...]
) -> None:
    """Train, evaluate before and after, and write every result into `options.out`."""
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    HOME.mkdir(parents=True, exist_ok=True)
    # A base directory of its own, so that the run starts at round 1 and nothing else is touched.
    base = Path(tempfile.mkdtemp(prefix="headless-", dir=HOME))
    try:
        base_directory(base)
        server = Server(
            env, comfy, base, port=options.port, log=out / "server.log", device_arguments=device
        )
        server.log.unlink(missing_ok=True)
        with server:
            train(options, server, out)
    finally:
        shutil.rmtree(base, ignore_errors=True)


def train(options: argparse.Namespace, server: Server, out: Path) -> None:
    """Drive a running server."""
    client = server.client
    whole = to_api(load(EXAMPLE_WORKFLOW), client.object_info())
    needed = ancestors(whole, [find(whole, "PXPO_UpdateLoRA")])  # without the previews
    prompt = {node_id: node for node_id, node in whole.items() if node_id in needed}
    prompt = changed(prompt, "EmptyLatentImage", batch_size=options.images)
    prompt = changed(prompt, "PXPO_Run", run_name=RUN_NAME)
    if options.seed is not None:
        prompt = changed(prompt, "PXPO_DDIMLogProbSampler", seed=options.seed)
    sampler = prompt[find(prompt, "PXPO_DDIMLogProbSampler")]["inputs"]
    update = prompt[find(prompt, "PXPO_UpdateLoRA")]["inputs"]
    positive = prompt[sampler["positive"][0]]["inputs"]
    if options.prompt is not None:
        positive["text"] = options.prompt
    steps = sampler["steps"]
    trained = update["train_steps"] or "as suits the objective"
    print(
        f"ComfyUI {server.comfyui.version} at {server.address}. Prompt: {positive['text']!r}, "
        f"{options.images} images a round, T = {steps} steps, of which K are trained: {trained}."
    )
    print(f"Evaluating the untrained model on {options.eval_images} images ...", flush=True)
    before = evaluate(server, prompt, options.eval_images, lora=None)

    print(f"\n{'round':>5}  {'reward':>17}  {'images':>6}  {'seconds':>7}", flush=True)
    rounds = []
    for number in range(1, options.rounds + 1):
        row = one_round(server, prompt, number)
        if row is None:
            break
        rounds.append(row)
        print(
            f"{row['round']:>5}  {row['reward_mean']:>+8.4f} ± {row['reward_std']:.4f}"
            f"  {row['images']:>6}  {row['seconds']:>7.1f}",
            flush=True,
        )
    print(
        f"\nEvaluating the trained model on the same {options.eval_images} images ...", flush=True
    )
    saved = sorted((server.base / "output" / "loras").glob("*.safetensors"))[-1]
    after = evaluate(server, prompt, options.eval_images, lora=saved.name)

    differences = [b - a for a, b in zip(before.rewards, after.rewards, strict=True)]
    gain = {**moments(differences), "n": len(differences)}
    shutil.copyfile(saved, out / "lora.safetensors")
    results = {
        "rounds": rounds,
        "eval_before": before.summary(),
        "eval_after": after.summary(),
        "eval_gain": gain,
        "settings": {
            "prompt": positive["text"],
            "negative_prompt": prompt[sampler["negative"][0]]["inputs"].get("text"),
            "images_per_round": options.images,
            "sampler": {k: v for k, v in sampler.items() if not isinstance(v, list)},
            "update": {k: v for k, v in update.items() if not isinstance(v, list)},
            "run": {
                k: v
                for k, v in prompt[find(prompt, "PXPO_Run")]["inputs"].items()
                if not isinstance(v, list)
            },
            "evaluation": {
                "steps": steps,
                "cfg": sampler["cfg"],
                "scheduler": sampler["scheduler"],
                "first_seed": EVAL_SEED,
                "paired": "same prompt, x_T and per-step noise before and after",
            },
        },
        "host": host(server, steps, trained),
    }
    (out / "metrics.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    report.reward_chart(rounds, before.summary(), after.summary()).save(out / "reward.png")
    report.before_after(before.pictures, after.pictures, positive["text"]).save(
        out / "before_after.png"
    )
    print(
        f"Evaluation: reward {before.summary()['mean']:+.4f} before, "
        f"{after.summary()['mean']:+.4f} after; change {gain['mean']:+.4f} ± {gain['sd']:.4f} "
        f"(sd over {gain['n']} paired images)."
    )
    print(f"Peak memory of the server: {server.memory():.0f} MB.")
    print(f"Results: {out}")
    for name in ("metrics.json", "reward.png", "before_after.png", "lora.safetensors"):
        print(f"  {name}")


def one_round(server: Server, prompt: Prompt, number: int) -> dict[str, Any] | None:
    """One press of Run, which also saves the LoRA with core's own node; None: no round made."""
    prompt = dict(prompt)
    update = find(prompt, "PXPO_UpdateLoRA")
    prompt["save"] = {
        "class_type": "SaveLoRA",
        "inputs": {"lora": [update, 1], "prefix": f"loras/pxpo_{RUN_NAME}_r{number:04d}"},
    }
    started = time.monotonic()
    result = server.client.run(prompt, poll=server.memory)
    seconds = time.monotonic() - started
    numbers = dict(result.ui(update, "pxpo_update")[0])
    if "reward_mean" not in numbers:
        print(result.ui(update, "text")[0], flush=True)
        return None
    return {
        "round": numbers["round"],
        "reward_mean": numbers["reward_mean"],
        "reward_std": numbers["reward_sd"],
        "images": numbers["images_total"],
        "seconds": round(seconds, 2),
        "update": numbers,
    }


def evaluate(server: Server, prompt: Prompt, count: int, lora: str | None) -> Evaluation:
    """Reward of a fixed set of images, without a LoRA or with a file from the loras folder.

    Sampled outside any run, so that x_T and the noise of every step depend on the seed alone.
    """
    sampler = prompt[find(prompt, "PXPO_DDIMLogProbSampler")]["inputs"]
    reward_node = find(prompt, "PXPO_PixelReward")
    base = prompt[find(prompt, "PXPO_Run")]["inputs"]["model"]
    decode = prompt[prompt[reward_node]["inputs"]["image"][0]]
    vae = decode["inputs"]["vae"]
    needed = ancestors(prompt, [base[0], sampler["positive"][0], sampler["negative"][0], vae[0]])
    rewards: list[float] = []
    pictures: list[Image.Image] = []
    for index, first in enumerate(range(0, count, EVAL_BATCH)):
        size = min(EVAL_BATCH, count - first)
        graph: Prompt = {node_id: prompt[node_id] for node_id in needed}
        latent = prompt[sampler["latent_image"][0]]
        graph["latent"] = {**latent, "inputs": {**latent["inputs"], "batch_size": size}}
        model = base
        if lora is not None:
            model = ["lora", 0]
            graph["lora"] = {
                "class_type": "LoraLoaderModelOnly",
                "inputs": {"model": base, "lora_name": lora, "strength_model": 1.0},
            }
        graph["sample"] = {
            "class_type": "PXPO_DDIMLogProbSampler",
            "inputs": {
                **sampler,
                "model": model,
                "latent_image": ["latent", 0],
                "seed": EVAL_SEED + index,
            },
        }
        graph["decode"] = {
            "class_type": "VAEDecode",
            "inputs": {"samples": ["sample", 0], "vae": vae},
        }
        reward = prompt[reward_node]
        graph["reward"] = {**reward, "inputs": {**reward["inputs"], "image": ["decode", 0]}}
        graph["heatmap"] = {"class_type": "PreviewImage", "inputs": {"images": ["reward", 1]}}
        graph["show"] = {"class_type": "PreviewImage", "inputs": {"images": ["decode", 0]}}
        result = server.client.run(graph, poll=server.memory)
        rewards += [float(value) for value in result.ui("reward", "pxpo_reward")[0]["per_image"]]
        for reference in result.ui("show", "images")[: max(SHOWN - len(pictures), 0)]:
            picture = Image.open(io.BytesIO(server.client.picture(reference)))
            pictures.append(picture.convert("RGB"))
    return Evaluation(rewards, pictures)


def ancestors(prompt: Prompt, roots: list[str]) -> set[str]:
    """These nodes and everything they need."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        node_id = waiting.pop()
        if node_id in found:
            continue
        found.add(node_id)
        inputs = prompt[node_id]["inputs"].values()
        waiting += [value[0] for value in inputs if isinstance(value, list)]
    return found


def host(server: Server, steps: int, trained: int | str) -> dict[str, Any]:
    """What the numbers were measured on."""
    stats = server.client.get("/system_stats")
    system = stats["system"]
    return {
        "comfyui": system.get("comfyui_version", server.comfyui.version),
        "frontend": metadata.version("comfyui-frontend-package"),
        "python": platform.python_version(),
        "torch": system.get("pytorch_version", metadata.version("torch")),
        "device": [device.get("name") for device in stats.get("devices", ())],
        "cpu_count": os.cpu_count(),
        "platform": platform.platform(),
        "server_peak_rss_mb": round(server.memory()),
        "sampling_steps_T": steps,
        "trained_steps_K": trained,
        "commit": commit(),
    }
