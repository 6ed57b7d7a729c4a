"""One family's row: each check as a figure and its limit, and what a step costs."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import family_checks as checks
import small_models
import torch
from small_models import Family

REPEATS = 5

LIMITS = {
    "euler_eta_0": 1e-4,
    "ancestral_eta_1": 1e-4,
    "noise_left_ratio": 1.05,
    "replay_log_ratio": 0.0,
    "replay_log_ratio_single": 5e-4,
    "gradient_error": 1e-3,
    "gradient_error_checkpointed": 1e-3,
    "gradient_error_float32": 0.05,
    "lora_file_difference": 1e-3,
    "host_changes": 0,
}
"""Largest figure that passes; what they mean is in docs/models.md."""


def measure(name: str, host: str) -> dict[str, Any]:
    """The row of one family; raises what the host raises."""
    started = time.perf_counter()
    with torch.inference_mode():
        family = small_models.build(name)
        figures, facts = _checks(family), _facts(family)
        family_double = small_models.build(name, torch.float64)
        figures |= _gradients(family_double, facts["works_in_place"])
        costs = _costs(family, facts["works_in_place"])
    gc.collect()
    found = {
        check: {"figure": _rounded(figure), "limit": LIMITS[check], "pass": figure <= LIMITS[check]}
        for check, figure in figures.items()
    }
    return {
        "family": name,
        "host": host,
        **facts,
        "checks": {check: found[check] for check in LIMITS},
        **costs,
        "measured_in_seconds": round(time.perf_counter() - started, 1),
        "pass": all(check["pass"] for check in found.values()),
    }


def _facts(family: Family) -> dict[str, Any]:
    sampling = type(family.model.get_model_object("model_sampling"))
    own = [c.__name__ for c in sampling.__mro__ if c.__module__ == sampling.__bases__[0].__module__]
    attention = checks.learned_policy(family, target="attention")
    return {
        "parametrisation": " ".join(own),
        "parameters": sum(p.numel() for p in family.network.parameters()),
        "latent": list(family.size),
        "batch": family.batch,
        "attention_layers": len(attention.layers),
        "all_layers": len(checks.learned_policy(family).layers),
        "works_in_place": checks.works_in_place(family),
    }


def _checks(family: Family) -> dict[str, float]:
    policy = checks.learned_policy(family)
    ours, hosts = checks.residual_noise(family)
    with tempfile.TemporaryDirectory() as folder:
        difference = checks.file_difference(family, policy, Path(folder))
    try:
        with checks.untouched(family):
            checks.train_once(family, policy)
        changes = 0
    except AssertionError:
        changes = 1
    return {
        "euler_eta_0": checks.euler_difference(family),
        "ancestral_eta_1": checks.ancestral_difference(family),
        "noise_left_ratio": ours / hosts,
        "replay_log_ratio": checks.largest_log_ratio(family, policy, family.batch),
        "replay_log_ratio_single": checks.largest_log_ratio(family, policy, 1),
        "gradient_error_float32": checks.gradient_error(family, h=5e-3),
        "lora_file_difference": difference,
        "host_changes": changes,
    }


def _gradients(family: Family, in_place: bool) -> dict[str, float]:
    from pxpo_core.backends.comfy.backward import Backward

    checkpointed = Backward(copies=in_place, checkpointing=True)
    return {
        "gradient_error": checks.gradient_error(family),
        "gradient_error_checkpointed": checks.gradient_error(family, backward=checkpointed),
    }


def _costs(family: Family, in_place: bool) -> dict[str, float]:
    """Seconds of one step of the whole batch, and the most memory one training step takes."""
    from pxpo_core.backends.comfy.backward import Backward
    from pxpo_core.lora import LoRALayers

    policy = checks.learned_policy(family)
    rollout = checks.rollout_of(family, policy)
    trajectory = rollout.trajectory
    t = trajectory.trainable[1]
    sigma = trajectory.steps[t].sigma_t

    def sampling(denoise: Any) -> float:
        x = trajectory.states[t].clone()
        with torch.no_grad():
            return _fastest(lambda: denoise(x, sigma, range(trajectory.batch)))

    def training(denoise: Any) -> tuple[float, int]:
        x = trajectory.states[t].clone()

        def step() -> None:
            denoise(x, sigma, range(trajectory.batch)).square().mean().backward()

        step()  # finds out whether the model works in place
        return _fastest(step), _peak_bytes(step)

    with torch.inference_mode(False):
        layers = LoRALayers(policy)
        plain = Backward(copies=in_place)
        sampled = checks.replay(rollout.job, layers, backward=plain)(sampling)
        trained, peak = checks.replay(rollout.job, layers, backward=plain)(training)
        repeated = Backward(copies=in_place, checkpointing=True)
        slower, smaller = checks.replay(rollout.job, layers, backward=repeated)(training)
    return {
        "seconds_per_sampling_step": _rounded(sampled),
        "seconds_per_training_step": _rounded(trained),
        "seconds_per_training_step_checkpointed": _rounded(slower),
        "peak_training_megabytes": _rounded(peak / 1e6),
        "peak_training_megabytes_checkpointed": _rounded(smaller / 1e6),
    }


def _fastest(work: Callable[[], object]) -> float:
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def _peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes of tensors alive at once during `work`, beyond those before it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    alive = most = 0
    events = sorted(
        (e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"),
        key=lambda event: event.start_ns(),
    )
    for event in events:
        alive += event.nbytes()
        most = max(most, alive)
    return most


def _rounded(figure: float) -> float:
    return float(f"{figure:.3g}")
