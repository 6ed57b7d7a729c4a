"""Calling a pipeline's UNet for sampling and for replay, in ComfyUI's sigma space."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...denoiser import Denoiser
from ...lora import LoRALayers
from ...rollout import Progress, Trajectory, sample_trajectory
from .conditioning import Prompt, joined
from .model import PipelineModel

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SamplingJob:
    """How to call the model for one batch.

    positive, negative: one row per sample. cfg: guidance scale; 1 leaves the negative prompt out.
    sigmas: T + 1 falling values. at_once: samples per call of the UNet. checkpointing: recompute
    activations in the backward pass, for less memory and a third more time.
    """

    model: PipelineModel
    positive: Prompt
    negative: Prompt
    cfg: float
    sigmas: tuple[float, ...]
    at_once: int = 8
    checkpointing: bool = False


def sample(
    job: SamplingJob,
    layers: LoRALayers | None,
    eta: float,
    noise: Tensor,
    progress: Progress | None = None,
) -> Trajectory:
    """Sample one batch with the LoRA attached. noise: [1 + T, B, C, h, w], x_T's first."""
    model = job.model
    start = model.first_latent(noise[0], job.sigmas[0]).to(model.device)
    with _lent(job, layers, training=False) as denoise, torch.no_grad():
        return sample_trajectory(
            denoise, start, noise[1:], job.sigmas, "vp", eta, progress=progress
        )


class ReplaySession:
    """A `pxpo_core.denoiser.Session` on a pipeline, with gradients; layers None: the base."""

    def __init__(self, job: SamplingJob, layers: LoRALayers | None) -> None:
        self._job, self._layers = job, layers

    def __call__(self, work: Callable[[Denoiser], T]) -> T:
        with _lent(self._job, self._layers, training=True) as denoise:
            return work(denoise)


@contextmanager
def _lent(job: SamplingJob, layers: LoRALayers | None, *, training: bool) -> Iterator[Denoiser]:
    """The UNet frozen, without dropout, with the LoRA; afterwards it is as it was."""
    unet = job.model.unet
    modes = [(module, module.training) for module in unet.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in unet.parameters()]
    checkpointed = bool(unet.is_gradient_checkpointing)
    try:
        unet.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        _set_checkpointing(unet, training and job.checkpointing)
        with (
            torch.set_grad_enabled(training),
            layers.attached(unet) if layers is not None else nullcontext(),
        ):
            yield _GuidedDenoiser(job)
    finally:
        _set_checkpointing(unet, checkpointed)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            module.training = mode


def _set_checkpointing(unet: Any, wanted: bool) -> None:
    if wanted and not unet.is_gradient_checkpointing:
        unet.enable_gradient_checkpointing()
    elif unet.is_gradient_checkpointing and not wanted:
        unet.disable_gradient_checkpointing()


class _GuidedDenoiser:
    """A `Denoiser` over the UNet with classifier-free guidance."""

    def __init__(self, job: SamplingJob) -> None:
        self._job, self._model = job, job.model

    def __call__(self, x: Tensor, sigma: float, samples: Sequence[int]) -> Tensor:
        x, size = x.to(self._model.device, torch.float32), self._job.at_once
        parts = [
            self._guided(x[i : i + size], sigma, samples[i : i + size])
            for i in range(0, x.shape[0], size)
        ]
        return torch.cat(parts)

    def _guided(self, x: Tensor, sigma: float, samples: Sequence[int]) -> Tensor:
        job, positive = self._job, self._job.positive.rows(samples)
        if job.cfg == 1.0:
            return self._denoised(x, sigma, positive)
        both = joined(positive, job.negative.rows(samples))
        liked, other = torch.chunk(self._denoised(torch.cat([x, x]), sigma, both), 2)
        return other + job.cfg * (liked - other)

    def _denoised(self, x: Tensor, sigma: float, prompt: Prompt) -> Tensor:
        """D from the UNet's eps or v: EDM's table 1 (Karras et al. 2022), VP column."""
        unet, total = self._model.unet, (sigma**2 + 1.0) ** 0.5
        added = None
        if prompt.pooled is not None:
            added = {"text_embeds": prompt.pooled.to(unet.dtype), "time_ids": prompt.time_ids}
        predicted: Tensor = unet(
            (x / total).to(unet.dtype),
            self._model.timestep(sigma),
            encoder_hidden_states=prompt.embeddings.to(unet.dtype),
            added_cond_kwargs=added,
            return_dict=False,
        )[0].float()
        if self._model.predicts_v:
            denoised: Tensor = x / total**2 - predicted * (sigma / total)
        else:
            denoised = x - sigma * predicted
        return denoised
