"""Calling a ComfyUI MODEL the way its own sampler does, for sampling and for replay.

Loading, conditioning, masks, hooks, previews and interruption all come from the host's guider.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import comfy.ldm.modules.attention
import comfy.samplers
import torch
from torch import Tensor, nn

from ...denoiser import Denoiser
from ...lora import LoRALayers
from ...rollout import Trajectory, sample_trajectory
from ...transition import as_schedule
from .host_model import noise_family, noise_scale
from .training_mode import training_mode

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

    noises: [T, B, C, h, w]. Returns the LATENT samples (host units, CPU) and the trajectory.
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

    latent = _run(job, layers, body, training=False)
    return latent.cpu(), kept[0]


class ReplaySession:
    """A `pxpo_core.denoiser.Session` on a ComfyUI MODEL, with gradients; layers None: the base."""

    def __init__(self, job: SamplingJob, layers: LoRALayers | None) -> None:
        self._job, self._layers = job, layers

    def __call__(self, work: Callable[[Denoiser], T]) -> T:
        results: list[T] = []

        def body(denoise: "_GuidedDenoiser", x: Tensor) -> Tensor:
            results.append(work(denoise))
            return torch.zeros_like(x)

        _run(self._job, self._layers, body, training=True)
        return results[0]


def _run(job: SamplingJob, layers: LoRALayers | None, body: Body, *, training: bool) -> Tensor:
    """Run `body` where the host would run its sampler, with the LoRA attached around it only."""

    def sampler_function(
        model_k: Any, x: Tensor, sigmas: Tensor, extra_args: Any, callback: Any, disable: bool
    ) -> Tensor:
        network = model_k.inner_model.inner_model.diffusion_model
        with (
            training_mode(network) if training else nullcontext(),
            layers.attached(network) if layers is not None else nullcontext(),
        ):
            denoise = _GuidedDenoiser(model_k, extra_args)
            if training and layers is not None and _works_in_place(denoise, x, sigmas, layers):
                with torch.autograd.graph.saved_tensors_hooks(
                    _copy_unless_in(network), lambda kept: kept
                ):
                    return body(denoise, x)
            return body(denoise, x)

    model = job.model.clone()
    # One attention path for sampling and replay; the host's faster ones may lack a backward.
    model.model_options["transformer_options"]["optimized_attention_override"] = _torch_attention
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(job.positive, job.negative)
    guider.set_cfg(job.cfg)
    samples: Tensor = guider.sample(
        job.noise,
        job.latent_image,
        comfy.samplers.KSAMPLER(sampler_function),
        job.sigmas,
        denoise_mask=job.noise_mask,
        disable_pbar=True,
        seed=job.seed,
    )
    return samples


def _copy_unless_in(network: nn.Module) -> Callable[[Tensor], Tensor]:
    """Copies what backward keeps, for models (Flux) that later write into it; not the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    return lambda kept: (
        kept if kept.untyped_storage().data_ptr() in weights else kept.detach().clone()
    )


def _works_in_place(
    denoise: "_GuidedDenoiser", x: Tensor, sigmas: Tensor, layers: LoRALayers
) -> bool:
    """Whether the model overwrites what its gradient needs, by a backward through one sample."""
    try:
        denoised = denoise(x[:1].clone(), float(sigmas[0]), range(1))
        torch.autograd.grad(denoised.sum(), list(layers.parameters.values()), allow_unused=True)
    except RuntimeError as error:
        if "inplace operation" not in str(error):
            raise
        return True
    return False


class _GuidedDenoiser:
    """A `Denoiser` over the host's guided model, for any subset of the batch."""

    def __init__(self, model_k: Any, extra_args: dict[str, Any]) -> None:
        self._model_k, self._extra_args = model_k, extra_args
        self._guider = model_k.inner_model
        self._batch = int(model_k.noise.shape[0])

    @property
    def denoise_mask(self) -> Tensor | None:
        mask: Tensor | None = self._extra_args["denoise_mask"]
        return mask

    def __call__(self, x: Tensor, sigma: float, samples: Sequence[int]) -> Tensor:
        x = x.to(self._model_k.noise.device)
        sigmas = torch.full((x.shape[0],), sigma, device=x.device, dtype=torch.float32)
        if list(samples) == list(range(self._batch)):
            denoised: Tensor = self._model_k(x, sigmas, **self._extra_args)
            return denoised
        return self._call_rows(x, sigmas, list(samples))

    def _call_rows(self, x: Tensor, sigmas: Tensor, rows: list[int]) -> Tensor:
        """Call the model for some samples: conditioning and masks are cut to their rows."""
        model_k, guider = self._model_k, self._guider
        part = comfy.samplers.KSamplerX0Inpaint(guider, model_k.sigmas)
        part.noise, part.latent_image = model_k.noise[rows], model_k.latent_image[rows]
        extra = dict(self._extra_args)
        if extra["denoise_mask"] is not None:
            extra["denoise_mask"] = extra["denoise_mask"][rows]
        conds = guider.conds
        guider.conds = {
            name: _cond_rows(entries, rows, self._batch) for name, entries in conds.items()
        }
        try:
            denoised: Tensor = part(x, sigmas, **extra)
            return denoised
        finally:
            guider.conds = conds


def _cond_rows(entries: list[dict[str, Any]], rows: list[int], batch: int) -> list[dict[str, Any]]:
    """Conditioning entries cut to `rows` wherever they hold one value per sample."""

    def cut(cond: Any) -> Any:
        value = getattr(cond, "cond", None)
        if batch > 1 and isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == batch:
            return cond._copy_with(value[rows])
        return cond

    return [
        {**entry, "model_conds": {k: cut(v) for k, v in entry["model_conds"].items()}}
        for entry in entries
    ]


def _without_masked_noise(trajectory: Trajectory, mask: Tensor | None) -> Trajectory:
    """z is 0 where an inpainting mask overwrites x: the policy did not decide those pixels."""
    if mask is None:
        return trajectory
    return replace(trajectory, noises=trajectory.noises * mask.to(trajectory.noises))


def _torch_attention(_chosen: Any, *args: Any, **kwargs: Any) -> Tensor:
    attended: Tensor = comfy.ldm.modules.attention.attention_pytorch(*args, **kwargs)
    return attended
