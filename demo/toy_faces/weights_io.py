"""Reading and writing the committed weights: half precision on disk, float32 in memory, strict."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

WEIGHTS_DIR = Path(__file__).parent / "weights"
UNET_FILE = "unet.safetensors"
TEXT_ENCODER_FILE = "text_encoder.safetensors"
VAE_FILE = "vae.safetensors"
SEGMENTER_FILE = "segmenter.safetensors"
METADATA_FILE = "metadata.json"
WEIGHT_FILES = (UNET_FILE, TEXT_ENCODER_FILE, VAE_FILE, SEGMENTER_FILE)


class DamagedWeightsError(RuntimeError):
    """A weight file is missing, unreadable or does not fit its model."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"Toy Faces weights are damaged: {path}; reinstall the extension ({why})")


def save_weights(path: Path, module: nn.Module, facts: dict[str, Any] | None = None) -> None:
    """Write a module as float16 safetensors, atomically; `facts` go into the header as JSON."""
    tensors = {
        k: v.detach().to("cpu", torch.float16).contiguous() for k, v in module.state_dict().items()
    }
    partial = path.with_name(path.name + ".part")
    # One entry only: safetensors writes several in random order, and equal runs give equal bytes.
    header = {"facts": json.dumps(facts or {}, sort_keys=True)}
    save_file(tensors, partial, metadata=header)
    os.replace(partial, path)


def load_weights(path: Path, module: nn.Module) -> dict[str, Any]:
    """Fill `module` from a file of `save_weights`, keys and shapes matching; returns the facts."""
    if not path.is_file():
        raise DamagedWeightsError(path, "the file is missing")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
            header = file.metadata() or {}
        module.load_state_dict(tensors, strict=True)
        return dict(json.loads(header.get("facts", "{}")))
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise DamagedWeightsError(path, str(error).splitlines()[0]) from error


def read_facts(path: Path) -> dict[str, Any]:
    """Only the facts in a weight file's header."""
    if not path.is_file():
        raise DamagedWeightsError(path, "the file is missing")
    try:
        with safe_open(path, framework="pt") as file:
            return dict(json.loads((file.metadata() or {}).get("facts", "{}")))
    except (SafetensorError, OSError, ValueError) as error:
        raise DamagedWeightsError(path, str(error).splitlines()[0]) from error


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(partial, path)
