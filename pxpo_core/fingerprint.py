"""Which base model a run trains: the same in every backend, whatever LoRAs are loaded."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

VECTORS = 8
"""How many small tensors are read."""


def fingerprint(state: Mapping[str, Tensor]) -> str:
    """Identity of a network: its tensors' names and shapes, and the bits of a few small ones.

    state: the network's state dict, under the names ComfyUI uses. Vectors (norms, biases) are
    read, because loaded LoRAs change matrices. 16 hex digits.
    """
    hasher = hashlib.sha256()
    for name in sorted(state):
        hasher.update(f"{name}{tuple(state[name].shape)}".encode())
    vectors = [name for name in sorted(state) if state[name].ndim == 1]
    stride = max(1, len(vectors) // VECTORS)
    for name in vectors[::stride]:
        hasher.update(state[name].detach().to("cpu", torch.float32).numpy().tobytes())
    return hasher.hexdigest()[:16]
