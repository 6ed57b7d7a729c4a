"""Calling a ComfyUI MODEL the way its own sampler does, for sampling and for replay.

Loading, conditioning, masks, hooks, previews and interruption all come from the host's guider.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import comfy.ldm.modules.attention
import comfy.samplers
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ...denoiser import Denoiser
from ...lora import LoRALayers
from ...rollout import Trajectory, sample_trajectory
from ...stepwise import checkpoints, predictions
from ...transition import as_schedule
from .backward import Backward
from .conditioning import entry_rows, without_control_gradients
from .fused_kernels import differentiable_kernels
from .host_model import has_frames, noise_family, noise_scale
from .in_place import SavedTensors, copy_unless_in
from .patches import other_networks
from .training_mode import replayable_mode, training_mode

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

T = TypeVar("T")
StepCallback = Callable[[int, Tensor, Tensor, int], None]
Body = Callable[["_GuidedDenoiser", Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class SamplingJob:
    """What the host needs to call the model for one batch.

    model: without the policy's patches. noise: [B, C, h, w] unit noise of x_T. latent_image:
    [B, C, h, w], zeros for an empty latent. noise_mask: the LATENT's, or None. sigmas: T + 1.
    A model whose latent is a video gets one of one frame: pictures have no frames here.
    """

    model: "ModelPatcher"
    positive: Any
    negative: Any
    cfg: float
    sigmas: Tensor
    noise: Tensor
    latent_image: Tensor
    noise_mask: Tensor | None
    seed: int


def sample(
    job: SamplingJob,
    layers: LoRALayers | None,
    eta: float,
    noises: Tensor,
    callback: StepCallback | None = None,
) -> tuple[Tensor, Trajectory]:
    """Sample one batch with the LoRA attached.

    noises: [T, B, C, h, w]. Returns the LATENT samples (host units, CPU, with the frame dimension
    of a model that has one) and the trajectory.
    """
    family, scale = noise_family(job.model), noise_scale(job.model)
    sigmas = as_schedule(job.sigmas)
    kept: list[Trajectory] = []

    def body(denoise: "_GuidedDenoiser", x: Tensor) -> Tensor:
        def progress(i: int, denoised: Tensor, x_t: Tensor) -> None:
            if callback is not None:
                callback(i, denoised, x_t, len(sigmas) - 1)

        with torch.no_grad():
            trajectory = sample_trajectory(denoise, x, noises, sigmas, family, eta, scale, progress)
        kept.append(_without_masked_noise(trajectory, denoise.denoise_mask))
        return trajectory.x_0.to(x)

    latent = _run(job, layers, body, training=None)
    return latent.cpu(), kept[0]


def predicted_latents(job: SamplingJob, trajectory: Trajectory) -> Tensor:
    """The predictions that a reward may judge, in host units as LATENT samples: [M B, ...]."""
    made = predictions(trajectory)
    # Without fresh noise every prediction is the finished picture.
    chosen = made[list(checkpoints(len(made) - 1)) or [0]].flatten(0, 1)
    latents: Tensor = job.model.model.process_latent_out(_framed(chosen, has_frames(job.model)))
    return latents


class BaseSession:
    """A `pxpo_core.denoiser.Session` on the model without the LoRA and without gradients.

    Called as the sampler calls it: what differs from the sampled path is the policy's doing.
    """

    def __init__(self, job: SamplingJob) -> None:
        self._job = job

    def __call__(self, work: Callable[[Denoiser], T]) -> T:
        return _worked(self._job, None, work, training=None)


class ReplaySession:
    """A `pxpo_core.denoiser.Session` on a ComfyUI MODEL, with gradients; layers None: the base."""

    def __init__(
        self, job: SamplingJob, layers: LoRALayers | None, backward: Backward | None = None
    ) -> None:
        self._job, self._layers, self._backward = job, layers, backward or Backward()

    def __call__(self, work: Callable[[Denoiser], T]) -> T:
        return _worked(self._job, self._layers, work, training=self._backward)


def _worked(
    job: SamplingJob,
    layers: LoRALayers | None,
    work: Callable[[Denoiser], T],
    *,
    training: Backward | None,
) -> T:
    """What `work` returns, given the model where the host would run its sampler."""
    results: list[T] = []

    def body(denoise: "_GuidedDenoiser", x: Tensor) -> Tensor:
        results.append(work(denoise))
        return torch.zeros_like(x)

    _run(job, layers, body, training=training)
    return results[0]


def _run(
    job: SamplingJob, layers: LoRALayers | None, body: Body, *, training: Backward | None
) -> Tensor:
    """Run `body` where the host would run its sampler, with the LoRA attached around it only.

    training: how gradients are computed; None: without them.
    """

    frames = has_frames(job.model)

    def sampler_function(
        model_k: Any, x: Tensor, sigmas: Tensor, extra_args: Any, callback: Any, disable: bool
    ) -> Tensor:
        guider = model_k.inner_model
        network = guider.inner_model.diffusion_model
        guider.conds = without_control_gradients(guider.conds)
        with ExitStack() as stack:
            watch = False
            if training is not None:
                stack.enter_context(training_mode(network, *other_networks(guider)))
            else:
                stack.enter_context(replayable_mode(network))
                stack.enter_context(differentiable_kernels(network)())
            if layers is not None:
                stack.enter_context(layers.attached(network))
            if training is not None:
                watch = not stack.enter_context(training.prepared(guider))
            denoise = _GuidedDenoiser(model_k, extra_args, frames, watch)
            return _framed(body(denoise, _picture(x, frames)), frames)

    model = job.model.clone()
    # One attention path for sampling and replay; the host's faster ones may lack a backward.
    model.model_options["transformer_options"]["optimized_attention_override"] = _torch_attention
    if training is not None:
        training.reserve_memory(model)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(job.positive, job.negative)
    guider.set_cfg(job.cfg)
    samples: Tensor = guider.sample(
        _framed(job.noise, frames),
        _framed(job.latent_image, frames),
        comfy.samplers.KSAMPLER(sampler_function),
        job.sigmas,
        denoise_mask=job.noise_mask,
        disable_pbar=True,
        seed=job.seed,
    )
    return samples


def _framed(picture: Tensor, frames: bool) -> Tensor:
    """[B, C, h, w] as the model has it: a video model's latent is one of one frame."""
    return picture.unsqueeze(2) if frames else picture


def _picture(latent: Tensor, frames: bool) -> Tensor:
    """The model's latent as [B, C, h, w]."""
    return latent.squeeze(2) if frames and latent.ndim == 5 else latent


class _GuidedDenoiser:
    """A `Denoiser` over the host's guided model, for any subset of the batch."""

    def __init__(self, model_k: Any, extra_args: dict[str, Any], frames: bool, watch: bool) -> None:
        """watch: find out at the first gradient whether the model works in place."""
        self._model_k, self._extra_args, self._frames = model_k, extra_args, frames
        self._guider = model_k.inner_model
        self._batch = int(model_k.noise.shape[0])
        self._works_in_place: bool | None = None if watch else False

    @property
    def guider(self) -> Any:
        """The host's guider, with the model loaded."""
        return self._guider

    @property
    def denoise_mask(self) -> Tensor | None:
        mask: Tensor | None = self._extra_args["denoise_mask"]
        return None if mask is None else _picture(mask, self._frames)

    def __call__(self, x: Tensor, sigma: float, samples: Sequence[int]) -> Tensor:
        x = x.to(self._model_k.noise.device)
        if not torch.is_grad_enabled() or self._works_in_place is False:
            return self._call(x, sigma, samples)
        if self._works_in_place is None:
            saved = SavedTensors()
            with saved_tensors_hooks(saved.keep, lambda kept: kept):
                denoised = self._call(x, sigma, samples)
            self._works_in_place = saved.overwritten
            if not self._works_in_place:
                return denoised
            del saved, denoised
        network = self._guider.inner_model.diffusion_model
        with saved_tensors_hooks(copy_unless_in(network), lambda kept: kept):
            return self._call(x, sigma, samples)

    def _call(self, x: Tensor, sigma: float, samples: Sequence[int]) -> Tensor:
        rows = list(samples)
        x = _framed(x, self._frames)
        sigmas = torch.full((x.shape[0],), sigma, device=x.device, dtype=torch.float32)
        if rows == list(range(self._batch)):
            denoised: Tensor = self._model_k(x, sigmas, **self._extra_args)
        else:
            denoised = self._call_rows(x, sigmas, rows)
        return _picture(denoised, self._frames)

    def _call_rows(self, x: Tensor, sigmas: Tensor, rows: list[int]) -> Tensor:
        """Call the model for some samples: conditioning and masks are cut to their rows."""
        model_k, guider = self._model_k, self._guider
        part = comfy.samplers.KSamplerX0Inpaint(guider, model_k.sigmas)
        part.noise, part.latent_image = model_k.noise[rows], model_k.latent_image[rows]
        extra = dict(self._extra_args)
        if extra["denoise_mask"] is not None:
            extra["denoise_mask"] = extra["denoise_mask"][rows]
        conds = guider.conds
        guider.conds = {name: entry_rows(entries, rows) for name, entries in conds.items()}
        try:
            denoised: Tensor = part(x, sigmas, **extra)
            return denoised
        finally:
            guider.conds = conds


def _without_masked_noise(trajectory: Trajectory, mask: Tensor | None) -> Trajectory:
    """z is 0 where an inpainting mask overwrites x: the policy did not decide those pixels."""
    if mask is None:
        return trajectory
    return replace(trajectory, noises=trajectory.noises * (mask > 0.0).to(trajectory.noises))


def _torch_attention(_chosen: Any, *args: Any, **kwargs: Any) -> Tensor:
    attended: Tensor = comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)
    return attended
