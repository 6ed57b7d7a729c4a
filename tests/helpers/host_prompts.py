"""Prompts for the real server, and what it says while it runs them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import threading
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy
from PIL import Image
from pxpo_dev.client import Result
from pxpo_dev.server import Server

Graph = dict[str, dict[str, Any]]
TINY = 64  # pixels: 8x8 latents keep these tests short


def training_graph(run_name: str, **changes: dict[str, Any]) -> Graph:
    """One round of training on Toy Faces; changes: node id -> inputs that differ."""
    graph: Graph = {
        "model": {"class_type": "PXPO_LoadToyFaces", "inputs": {}},
        "positive": {
            "class_type": "CLIPTextEncode",
            "inputs": {"clip": ["model", 1], "text": "portrait"},
        },
        "negative": {
            "class_type": "CLIPTextEncode",
            "inputs": {"clip": ["model", 1], "text": ""},
        },
        "latent": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": TINY, "height": TINY, "batch_size": 2},
        },
        "run": {
            "class_type": "PXPO_Run",
            "inputs": {
                "model": ["model", 0],
                "run_name": run_name,
                "r": 4,
                "lora_alpha": 4.0,
                "target_modules": "attention",
            },
        },
        "sampler": {
            "class_type": "PXPO_DDIMLogProbSampler",
            "inputs": {
                "model": ["run", 0],
                "positive": ["positive", 0],
                "negative": ["negative", 0],
                "latent_image": ["latent", 0],
                "seed": 1,
                "steps": 4,
                "cfg": 2.0,
                "scheduler": "karras",
                "eta": 1.0,
                "denoise": 1.0,
            },
        },
        "decode": {
            "class_type": "VAEDecode",
            "inputs": {"samples": ["sampler", 0], "vae": ["model", 2]},
        },
        "reward": {
            "class_type": "PXPO_PixelReward",
            "inputs": {
                "image": ["decode", 0],
                "rule": "channel level",
                "channel": "blue",
                "colour": "#3060ff",
                "direction": "less",
                "inside": 1.0,
                "outside": 0.0,
                "normalise": "none",
            },
        },
        "update": {
            "class_type": "PXPO_UpdateLoRA",
            "inputs": {
                "rollout": ["sampler", 1],
                "reward": ["reward", 0],
                "learning_rate": 0.001,
                "train_steps": 2,
                "credit_radius": 0.0,
                "anchor": 1.0,
                "steps_per_rollout": 1,
                "step_weighting": "uniform",
                "micro_batch": 8,
                # Three sampling steps and large rates move far in a round: only its tests stop.
                "auto_stop": False,
            },
        },
    }
    for node, inputs in changes.items():
        graph[node]["inputs"].update(inputs)
    return graph


def comparing(graph: Graph, model: str, rounds: str = "") -> Graph:
    """Add a Before / After of two pictures."""
    sampler = graph["sampler"]["inputs"]
    names = (
        "positive", "negative", "latent_image", "seed", "steps", "cfg", "scheduler", "eta",
        "denoise",
    )  # fmt: skip
    graph["compare"] = {
        "class_type": "PXPO_BeforeAfter",
        "inputs": {
            "model": [model, 0],
            "vae": ["model", 2],
            "rounds": rounds,
            **{name: sampler[name] for name in names},
        },
    }
    return graph


def sample_with(graph: Graph, name: str, model: list[Any]) -> None:
    """Add a stock KSampler on `model`, and a preview of its pictures called `name`."""
    sampler = dict(graph["sampler"]["inputs"])
    inputs = {
        key: sampler[key] for key in ("positive", "negative", "latent_image", "seed", "cfg")
    } | {
        "model": model,
        "steps": 3,
        "sampler_name": "euler_ancestral",
        "scheduler": "karras",
        "denoise": 1.0,
    }
    graph[f"{name}_sampler"] = {"class_type": "KSampler", "inputs": inputs}
    graph[f"{name}_decode"] = {
        "class_type": "VAEDecode",
        "inputs": {"samples": [f"{name}_sampler", 0], "vae": ["model", 2]},
    }
    graph[name] = {"class_type": "PreviewImage", "inputs": {"images": [f"{name}_decode", 0]}}


def save_map(maps: Path, content: bytes) -> str:
    """Put a map file where the paint widget does; gives its name."""
    name = hashlib.sha256(content).hexdigest()[:32]
    (maps / f"{name}.png").write_bytes(content)
    return name


def grey(levels: numpy.ndarray) -> bytes:
    """A PNG file with these grey levels, 128 for no mark."""
    buffer = io.BytesIO()
    Image.fromarray(levels.astype(numpy.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def painted(graph: Graph, *names: str) -> Graph:
    """The graph with a map painted on each of its pictures in place of its reward."""
    marks = [{"map": name, "width": TINY, "height": TINY} for name in names]
    graph["reward"] = {
        "class_type": "PXPO_PaintReward",
        "inputs": {
            "image": ["decode", 0],
            "mask_means": "like",
            "marks": {"version": 1, "marks": marks},
        },
    }
    return graph


def rounds(folder: Path) -> list[str]:
    """Names of the rounds on disk."""
    return sorted(path.name for path in folder.glob("round_*"))


class Events:
    """Collects what the server says over its websocket while prompts run."""

    def __init__(self, server: Server) -> None:
        self.address = server.address.replace("http", "ws", 1)
        self.client_id = server.client.client_id
        self.received: list[tuple[str, dict[str, Any]]] = []
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)

    async def _listen(self) -> None:
        url = f"{self.address}/ws?clientId={self.client_id}"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            while not self._stop.is_set():
                with contextlib.suppress(asyncio.TimeoutError):
                    message = await socket.receive(timeout=0.1)
                    if message.type == aiohttp.WSMsgType.TEXT:
                        event = message.json()
                        self.received.append((event["type"], event["data"]))
                        self._ready.set()

    def __enter__(self) -> Events:
        self._thread.start()
        assert self._ready.wait(10), "the websocket did not open"
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def executed(self, prompt_id: str) -> list[str]:
        """Nodes that ran for a prompt, in order (cached ones are not among them)."""
        return [
            data["node"]
            for kind, data in list(self.received)
            if kind == "executing" and data.get("prompt_id") == prompt_id and data.get("node")
        ]

    def wait_for_progress(
        self, prompt_id: str, node: str, timeout: float = 60.0, done: int = 0
    ) -> None:
        """Return once a node of this prompt has reported progress, of at least `done` steps."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            for kind, data in list(self.received):
                if kind != "progress" or data.get("prompt_id") != prompt_id:
                    continue
                if data.get("node") == node and data["value"] >= done:
                    return
            time.sleep(0.02)
        raise TimeoutError(f"{node} reported no progress within {timeout:.0f} s")


def pictures(server: Server, result: Result, node: str) -> list[Any]:
    """What a preview showed, as uint8 arrays [H, W, 3]."""
    return [
        numpy.asarray(Image.open(io.BytesIO(server.client.picture(reference))).convert("RGB"))
        for reference in result.ui(node, "images")
    ]
