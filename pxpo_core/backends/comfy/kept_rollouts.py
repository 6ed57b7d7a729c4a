"""The last rollout of each training run, kept while the process lives.

Press, paint, press: any other prompt in between makes the host forget the sampled batch, and the
marks belong to exactly that one.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...rollout import Trajectory
from .session import SamplingJob

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

RUNS_KEPT = 4
_CHANGES = ("object_patches", "hook_patches", "wrappers", "callbacks", "injections")
"""Parts of a MODEL that change its output and cannot be compared by content."""


class KeptRollouts:
    """At most RUNS_KEPT rollouts, one per run name; only tensors, never a model."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, Tensor, Trajectory]] = OrderedDict()

    def find(self, run: str, key: str | None) -> tuple[Tensor, Trajectory] | None:
        """Latent samples and trajectory that the same inputs gave before."""
        found = self._kept.get(run)
        if key is None or found is None or found[0] != key:
            return None
        return found[1].clone(), found[2]

    def keep(self, run: str, key: str | None, latent: Tensor, trajectory: Trajectory) -> None:
        """Replaces the run's earlier rollout; key None is not kept."""
        self._kept.pop(run, None)
        if key is None:
            return
        self._kept[run] = (key, latent.clone(), trajectory)
        while len(self._kept) > RUNS_KEPT:
            self._kept.popitem(last=False)


def input_key(job: SamplingJob, *more: object) -> str | None:
    """Digest of everything that decides a rollout; None when a part cannot be compared.

    more: what the job does not say: policy digest, base fingerprint, eta.
    """
    try:
        model = _model_content(job.model)
    except _NotComparableError:
        return None
    return content_key(
        model, job.positive, job.negative, job.cfg, job.sigmas, job.noise,
        job.latent_image, job.noise_mask, job.seed, more,
    )  # fmt: skip


def content_key(*content: object) -> str | None:
    """Digest of tensors and plain values, such as conditioning; None when a part has no content."""
    hasher = hashlib.blake2b(digest_size=16)
    try:
        _feed(hasher, content)
    except _NotComparableError:
        return None
    return hasher.hexdigest()


class _NotComparableError(Exception):
    """A value has no content to hash."""


def _model_content(model: "ModelPatcher") -> object:
    if any(_filled(getattr(model, name, None)) for name in _CHANGES):
        raise _NotComparableError
    patches = {
        str(key): [(p[0], p[2], p[3], p[4], _patch_content(p[1])) for p in patches]
        for key, patches in model.patches.items()
    }
    return patches, model.model_options


def _filled(value: Any) -> bool:
    """Whether anything is in a mapping of mappings or lists."""
    if isinstance(value, Mapping):
        return any(_filled(inner) for inner in value.values())
    return bool(value)


def _patch_content(patch: Any) -> object:
    """A weight adapter's class and tensors, or a plain tuple as it is."""
    weights = getattr(patch, "weights", None)
    return patch if weights is None else (type(patch).__name__, weights)


def _feed(hasher: Any, value: object) -> None:
    """Hash a value with its type and structure."""
    hasher.update(type(value).__name__.encode())
    if isinstance(value, Tensor):
        plain = value.detach().to("cpu").contiguous()
        hasher.update(f"{plain.dtype}{tuple(plain.shape)}".encode())
        hasher.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, Mapping):
        hasher.update(str(len(value)).encode())
        for key in sorted(value, key=str):
            _feed(hasher, str(key))
            _feed(hasher, value[key])
    elif isinstance(value, list | tuple):
        hasher.update(str(len(value)).encode())
        for item in value:
            _feed(hasher, item)
    elif value is None or isinstance(value, bool | int | float | str):
        hasher.update(f"{value!r};".encode())
    elif isinstance(value, torch.dtype | torch.device):
        hasher.update(str(value).encode())
    else:
        raise _NotComparableError
