"""Before an update: one forward of one picture says what training costs, and whether it repeats."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...lora import LoRALayers
from ...rollout import Trajectory
from .backward import Backward
from .rollout import Rollout
from .saved_memory import Measured, SavedBytes
from .session import ReplaySession

EXACT_TOLERANCE = 0.01
"""Largest difference of the predicted noise (its own size is 1) when computed in float32."""

ROUGH_TOLERANCE = 0.25
"""The same for half precision, where other batch sizes take other kernels and CFG multiplies it."""


class NotRepeatableError(RuntimeError):
    """The model predicts something else than it did while sampling."""


@dataclass(frozen=True, slots=True)
class Trial:
    """drift: root mean square change of the predicted noise. available: bytes on the device."""

    measured: Measured
    drift: float
    available: int


def try_one_picture(rollout: Rollout, layers: LoRALayers) -> Trial:
    """Replay one step of the last picture, keeping nothing; call it outside inference mode.

    Raises NotRepeatableError, naming what other nodes changed on the model, when the prediction is
    not the sampled one: its gradient would be that of another model.
    """
    trajectory = rollout.trajectory
    t = trajectory.trainable[len(trajectory.trainable) // 2]
    row = trajectory.batch - 1

    def work(denoise: Any) -> Trial:
        guider = denoise.guider
        counter = SavedBytes(guider.inner_model.diffusion_model, layers.parameters.values())
        x = trajectory.states[t, row : row + 1].clone()
        with counter.counting():
            denoised = denoise(x, trajectory.steps[t].sigma_t, (row,)).detach().cpu()
        drift = _drift(trajectory, t, row, denoised)
        if not drift <= _tolerance(guider.inner_model):
            raise NotRepeatableError(_refusal(drift, guider))
        return Trial(counter.measured, drift, _available(guider))

    # copies: nothing is, because counting drops everything; but no trial for work in place runs.
    return ReplaySession(rollout.job, layers, Backward(copies=True))(work)


def _drift(trajectory: Trajectory, t: int, row: int, denoised: Tensor) -> float:
    """How far the predicted noise is from the one that led to the next state."""
    if trajectory.process == "forward":
        return 0.0  # nothing was predicted for these pictures
    step = trajectory.steps[t]
    after = trajectory.x_0 if t + 1 == len(trajectory.steps) else trajectory.states[t + 1]
    x, z = trajectory.states[t, row].clone(), trajectory.noises[t, row].clone()
    sampled = after[row].clone() - step.std * z
    change = (step.mean(x, denoised[0]) - sampled) / step.gain * (step.a_t / step.sigma_t)
    # Where an inpainting mask took the noise away, the next state does not say what was predicted.
    decided = z != 0.0
    if not bool(decided.any()):
        return 0.0
    return float(change[decided].square().mean().sqrt())


def _tolerance(model: Any) -> float:
    dtype = getattr(model, "manual_cast_dtype", None) or model.get_dtype()
    return EXACT_TOLERANCE if dtype == torch.float32 else ROUGH_TOLERANCE


def _available(guider: Any) -> int:
    """Free memory of the model's device, with what the host can move away for us."""
    management = comfy.model_management
    device = guider.model_patcher.load_device
    free = int(management.get_free_memory(device))
    if management.is_device_cpu(device):
        return free
    ours = {id(patcher.model) for patcher in (guider.model_patcher, *guider.loaded_models)}
    return free + sum(
        int(loaded.model_loaded_memory())
        for loaded in management.current_loaded_models
        if loaded.device == device and loaded.model and id(loaded.model.model) not in ours
    )


def _refusal(drift: float, guider: Any) -> str:
    changes = list(dict.fromkeys(changes_on(guider.model_patcher.model_options)))
    names = (
        f" Other nodes changed these parts of the model: {', '.join(changes)}." if changes else ""
    )
    return (
        f"Asked again, the model predicts something else than while sampling ({100 * drift:.0f} % "
        f"off), so nothing can be learned from these pictures.{names} Bypass nodes that remember "
        "earlier steps or draw random numbers, and sample again."
    )


def changes_on(options: Mapping[str, Any]) -> Iterator[str]:
    """Names of the functions and objects other nodes put into a model's options."""
    transformer = options.get("transformer_options", {})
    for name, value in {**options, **transformer}.items():
        if name in ("transformer_options", "sample_sigmas", "optimized_attention_override"):
            continue
        yield from _names(value)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)
    elif callable(value):
        function: Callable[..., Any] = value
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        yield name.replace(".<locals>", "")
