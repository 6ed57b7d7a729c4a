"""Before an update: one forward of one picture says what training costs, and whether it repeats."""

from dataclasses import dataclass
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...lora import LoRALayers
from ...rollout import Trajectory
from .backward import Backward
from .patches import PatchError, patch_names
from .rollout import Rollout
from .saved_memory import Measured, SavedBytes
from .session import ReplaySession

EXACT_TOLERANCE = 1e-3
"""Largest difference of the predicted noise (its own size is 1) in float32 on the CPU."""

ROUGH_TOLERANCE = 0.25
"""The same elsewhere: in half precision and on GPUs other batch sizes take other kernels, and CFG
multiplies the difference."""


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
        if not drift <= _tolerance(guider):
            off = f"asked again, it predicts something else than while sampling ({drift:.2%} off)"
            raise not_repeatable(rollout, off)
        return Trial(counter.measured, drift, _available(guider))

    # copies: nothing is, because counting drops everything; but no trial for work in place runs.
    try:
        return ReplaySession(rollout.job, layers, Backward(copies=True))(work)
    except RuntimeError as error:
        if "Inference tensors" not in str(error):
            raise
        names = ", ".join(patch_names(rollout.job.model)) or "unknown"
        raise PatchError(
            f"Another node's change to the model ({names}) computes with tensors that no gradient "
            "can pass through. Bypass it before PXPO Training Run."
        ) from error


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


def _tolerance(guider: Any) -> float:
    model = guider.inner_model
    dtype = getattr(model, "manual_cast_dtype", None) or model.get_dtype()
    on_cpu = comfy.model_management.is_device_cpu(guider.model_patcher.load_device)
    return EXACT_TOLERANCE if on_cpu and dtype == torch.float32 else ROUGH_TOLERANCE


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


def not_repeatable(rollout: Rollout, what: str) -> NotRepeatableError:
    """The refusal, with the names of what other nodes changed on the model."""
    names = patch_names(rollout.job.model)
    changed = f" Other nodes changed these parts of it: {', '.join(names)}." if names else ""
    return NotRepeatableError(
        f"Nothing can be learned through this model: {what}.{changed} Bypass nodes that remember "
        "earlier steps or draw random numbers before PXPO Training Run, and sample again."
    )
