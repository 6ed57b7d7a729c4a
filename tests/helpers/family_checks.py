"""What must hold for every model family, each as one figure.

All functions run in inference mode, as node bodies do. Differences are the largest over the latent,
relative to the latent's standard deviation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from small_models import Family
from torch import Tensor

from pxpo_core.credit import Advantage, advantage_map
from pxpo_core.gradient import Experience, accumulate_gradient
from pxpo_core.lora import LoRAConfig, LoRALayers, Policy, new_policy
from pxpo_core.lora_file import LoRAInfo, save_lora
from pxpo_core.lora_file.keys import automatic_format
from pxpo_core.objective import log_ratio, step_weights
from pxpo_core.transition import make_step
from pxpo_core.update_config import UpdateConfig

LATENT = 32
"""Latent height and width of the residual-noise check."""


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference in standard deviations of `theirs`."""
    if ours.shape != theirs.shape:
        raise AssertionError(f"{tuple(ours.shape)} is not {tuple(theirs.shape)}")
    return float((ours - theirs).abs().max() / theirs.std())


def euler_difference(family: Family) -> float:
    """Our sampler at eta 0 against the host's euler."""
    return difference(family.ours(0.0), family.hosts("euler"))


def ancestral_difference(
    family: Family, sampler: str = "euler_ancestral", sigmas: Tensor | None = None
) -> float:
    """Our sampler at eta 1 against the host's ancestral sampler, with the same x_T and z."""
    if family.is_vp:
        return difference(family.ours(1.0, sigmas), family.hosts(sampler, sigmas))
    return flow_ancestral_difference(family, 1.0)


def flow_ancestral_difference(family: Family, host_eta: float) -> float:
    """The same for a flow model, whose euler_ancestral has another eta of ours in each step.

    Every one of its steps is made again from its x_t and its prediction.
    """
    path = host_path(family, "euler_ancestral", eta=host_eta)
    sigmas, noises = family.sigmas().tolist(), family.noise()[1:]
    worst = 0.0
    for i, ((x, denoised), (following, _)) in enumerate(itertools.pairwise(path)):
        sigma_t, sigma_s = sigmas[i], sigmas[i + 1]
        down = sigma_s * (1.0 + (sigma_s / sigma_t - 1.0) * host_eta)
        c = (1.0 - sigma_s) * down / (1.0 - down)
        std = math.sqrt(sigma_s**2 - c**2)
        scale = noise_scale(family)
        eta = std / make_step("flow", sigma_t, sigma_s, 1.0).std
        if eta > 1.0 + 1e-9:
            raise AssertionError(f"the host's noise is more than the posterior's: eta {eta}")
        step = make_step("flow", sigma_t, sigma_s, min(eta, 1.0), scale)
        ours = step.mean(x, denoised) + step.std * noises[i].reshape(x.shape)
        worst = max(worst, difference(ours, following))
    return worst


def noise_scale(family: Family) -> float:
    sampling = family.model.get_model_object("model_sampling")
    return float(getattr(sampling, "noise_scale", 1.0))


def host_path(family: Family, sampler: str, **options: Any) -> list[tuple[Tensor, Tensor]]:
    """The host's x_t and denoised prediction at each step of one of its samplers."""
    path: list[tuple[Tensor, Tensor]] = []

    def note(step: int, denoised: Tensor, x: Tensor, total: int) -> None:
        path.append((x.clone(), denoised.clone()))

    family.hosts(sampler, callback=note, **options)
    return path


def residual_noise(family: Family, sampler: str = "euler_ancestral") -> tuple[float, float]:
    """How much noise is left in pictures at eta 1: (our sampler's, the host's own).

    The network is replaced by the exact denoiser of smooth pictures (a Gaussian whose spectrum
    falls to nothing), so that everything else is the family's own: schedule, parametrisation,
    noise. Noise left is the root mean square above half of the highest frequency, in units of the
    pictures' own standard deviation.
    """
    channels = family.size[0]
    pictures = replace(
        family, model=with_exact_denoiser(family), size=(channels, LATENT, LATENT), steps=20
    )
    ours = pictures.ours(1.0)
    hosts = pictures.hosts(sampler, **({} if family.is_vp else {"eta": 1.0}))
    return high_frequencies(ours), high_frequencies(hosts)


def with_exact_denoiser(family: Family) -> Any:
    """A clone of the family's MODEL that predicts the posterior mean of smooth pictures."""
    model = family.model.clone()
    scale, spectrum = noise_scale(family), _smooth_spectrum(LATENT)

    def denoise(apply_model: Callable[..., Tensor], call: dict[str, Any]) -> Tensor:
        x, sigma = call["input"], float(call["timestep"][0])
        a = 1.0 if family.is_vp else 1.0 - sigma
        gain = a * spectrum / (a**2 * spectrum + (sigma * scale) ** 2)
        return torch.fft.ifft2(torch.fft.fft2(x) * gain).real

    model.set_model_unet_function_wrapper(denoise)
    return model


def _smooth_spectrum(size: int) -> Tensor:
    """Variance per frequency of smooth pictures of variance 1."""
    power = torch.exp(-((_frequency(size) / 0.08) ** 2)) + 1e-12
    return power / power.mean()


def _frequency(size: int) -> Tensor:
    f = torch.fft.fftfreq(size)
    return (f[:, None] ** 2 + f[None, :] ** 2).sqrt()


def high_frequencies(latent: Tensor) -> float:
    """Root mean square above half of the highest frequency, relative to the whole."""
    spectrum = torch.fft.fft2(latent.to(torch.float64)).abs().square()
    high = _frequency(latent.shape[-1]) > 0.25
    return math.sqrt(float((spectrum * high).mean() / spectrum.mean()))


def learned_policy(family: Family, scale: float = 0.05, target: str = "all layers") -> Policy:
    """A LoRA that has learned something."""
    policy = new_policy(family.network, LoRAConfig(r=2, lora_alpha=2.0, target_modules=target))
    generator = torch.Generator().manual_seed(1)
    tensors = {
        name: scale * torch.randn(tensor.shape, generator=generator)
        for name, tensor in policy.tensors.items()
    }
    return replace(policy, tensors=tensors)


def rollout_of(family: Family, policy: Policy) -> Any:
    """One rollout at eta 1, as the sampler node hands it on."""
    from pxpo_core.backends.comfy.policy_model import RunIdentity
    from pxpo_core.backends.comfy.rollout import Rollout
    from pxpo_core.backends.comfy.session import sample

    job = family.job()
    _, trajectory = sample(job, LoRALayers(policy), 1.0, family.noise()[1:])
    return Rollout(trajectory, job, policy, RunIdentity("small", None, 0), "base")


def largest_log_ratio(family: Family, policy: Policy, micro_batch: int) -> float:
    """Largest |log ratio| of a pixel when a rollout is replayed with gradients."""
    trajectory, job = (rollout := rollout_of(family, policy)).trajectory, rollout.job
    worst = 0.0

    def work(denoise: Any) -> None:
        nonlocal worst
        for t in trajectory.trainable:
            step, x = trajectory.steps[t], trajectory.states[t].clone()
            parts = []
            for first in range(0, len(x), micro_batch):
                part = x[first : first + micro_batch]
                parts.append(denoise(part, step.sigma_t, range(first, first + len(part))))
                if not parts[-1].requires_grad:
                    raise AssertionError("the replay has no gradient")
            mean = step.mean(x, torch.cat([part.detach() for part in parts]))
            # x_s = mean_old + std z, rebuilt: 0 to the last bit when the replay is exact.
            if torch.equal(mean + step.std * trajectory.noises[t], trajectory.states[t + 1]):
                continue
            old = trajectory.states[t + 1] - step.std * trajectory.noises[t]
            ratios = log_ratio(mean, old, trajectory.noises[t].clone(), step.std)
            worst = max(worst, float(ratios.abs().max()))

    with torch.inference_mode(False):
        replay(job, LoRALayers(policy))(work)
    return worst


def replay(job: Any, layers: LoRALayers | None, **options: Any) -> Any:
    """A session on the host's model; options as `ReplaySession` has them."""
    from pxpo_core.backends.comfy.session import ReplaySession

    return ReplaySession(job, layers, **options)


def gradient_error(family: Family, directions: int = 3, h: float = 1e-3, **session: Any) -> float:
    """The update direction against central differences of the objective, relative to its norm.

    The gradient is the one an update makes: two steps of the schedule, micro-batches of 2. The
    objective is computed here, from the design's formula and the whole batch. Directions: along the
    gradient, and `directions` mixtures of the layers' parts with random signs. h: how far, relative
    to the LoRA's own norm. session: options of the `ReplaySession` that makes the gradient.
    """
    policy = learned_policy(family)
    rollout = rollout_of(family, policy)
    trajectory = rollout.trajectory
    trainable = trajectory.trainable
    chosen = [trainable[len(trainable) // 3], trainable[-1]]
    generator = torch.Generator().manual_seed(2)
    height, width = trajectory.x_0.shape[-2:]
    worth = torch.randn((trajectory.batch, height, width), generator=generator)
    config = UpdateConfig(train_steps=len(chosen), steps_per_rollout=1, micro_batch=2)
    weights = step_weights([trajectory.steps[i] for i in trainable], config.step_weighting)
    double = {name: tensor.double() for name, tensor in policy.tensors.items()}
    precise = _parameter_dtype(family) == torch.float64

    def layers_at(offset: dict[str, Tensor] | None = None, h: float = 0.0) -> LoRALayers:
        layers = LoRALayers(policy)
        for name in layers.parameters:
            value = double[name] if offset is None else double[name] + h * offset[name]
            value = value.clone() if precise else value.float()
            layers.parameters[name] = torch.nn.Parameter(value)
        return layers

    def objective(denoise: Any) -> float:
        total = 0.0
        with torch.no_grad():
            for t in chosen:
                step, x = trajectory.steps[t], trajectory.states[t].clone()
                denoised = denoise(x, step.sigma_t, range(trajectory.batch)).double()
                z = trajectory.noises[t].clone().double()
                coefficient = weights[trainable.index(t)] * step.gain / step.std
                signal = worth[:, None].double() * coefficient * z * denoised
                total -= float(signal.mean()) * len(trainable) / len(chosen)
        return total

    with torch.inference_mode(False), torch.enable_grad():
        layers = layers_at()
        kept = replace(
            trajectory, states=trajectory.states.clone(), noises=trajectory.noises.clone()
        )
        experience = Experience(
            kept, Advantage(worth, 1.0, 1.0), replay(rollout.job, layers, **session)
        )
        accumulate_gradient(experience, chosen, 1.0, config, {}, {}, 1.0, lambda: None)
        gradient = {
            name: torch.zeros_like(double[name]) if p.grad is None else p.grad.double()
            for name, p in layers.parameters.items()
        }
        norm = _norm(gradient)
        if not norm > 0.0:
            raise AssertionError("the gradient is zero")
        worst = 0.0
        for number in range(1 + directions):
            signs = torch.randint(0, 2, (len(gradient),), generator=generator) * 2.0 - 1.0
            direction = {
                name: g * (1.0 if number == 0 else float(sign))
                for (name, g), sign in zip(gradient.items(), signs, strict=True)
            }
            expected = sum(float((gradient[n] * direction[n]).sum()) for n in gradient) / norm
            distance = h * _norm(double) / norm
            up, down = (
                replay(rollout.job, layers_at(direction, sign * distance))(objective)
                for sign in (1, -1)
            )
            slope = (up - down) / (2 * distance * norm)
            worst = max(worst, abs(slope - expected) / norm)
    return worst


def _norm(tensors: dict[str, Tensor]) -> float:
    return math.sqrt(sum(float(t.square().sum()) for t in tensors.values()))


def _parameter_dtype(family: Family) -> torch.dtype:
    return next(p.dtype for p in family.network.parameters() if p.ndim >= 2)


def file_difference(family: Family, policy: Policy, folder: Path) -> float:
    """Our sampler with the policy's layers against its saved file in the host's LoRA loader.

    Relative to how far the LoRA moves the pictures.
    """
    import comfy.sd
    import comfy.utils

    from pxpo_core.backends.comfy.lora_files import architecture, model_unet_names
    from pxpo_core.backends.comfy.session import sample

    names = model_unet_names(family.model)
    info = LoRAInfo(title=family.name, architecture=architecture(family.model))
    saved = save_lora(folder, family.name, policy, info, automatic_format(names), names)
    tensors = comfy.utils.load_torch_file(str(saved.path), safe_load=True)
    loaded, _ = comfy.sd.load_lora_for_models(family.model, None, tensors, 1.0, 0.0)
    if len(loaded.patches) != len(policy.layers):
        raise AssertionError(
            f"the host applied {len(loaded.patches)} of {len(policy.layers)} layers"
        )
    ours = sample(family.job(), LoRALayers(policy), 0.0, family.noise()[1:])[0]
    theirs = family.hosts("euler", model=loaded)
    moved = float((ours - family.ours(0.0)).abs().max())
    return float((ours - theirs).abs().max()) / moved


def works_in_place(family: Family) -> bool:
    """Whether the network overwrites what its gradient needs."""
    found: list[bool] = []

    def work(denoise: Any) -> None:
        x = family.noise()[0, :1].clone()
        denoise(x, float(family.sigmas()[1]), range(1))
        found.append(bool(denoise._works_in_place))

    with torch.inference_mode(False), torch.enable_grad():
        replay(family.job(batch=1), LoRALayers(learned_policy(family)))(work)
    return found[0]


def train_once(family: Family, policy: Policy) -> Any:
    """One round's update with everything on: several micro-batches, steps and the anchor."""
    from pxpo_core.backends.comfy.train import train_round

    rollout = rollout_of(family, policy)
    reward = torch.randn((3, 64, 64), generator=torch.Generator().manual_seed(3))
    size = (family.size[1], family.size[2])
    config = UpdateConfig(
        learning_rate=1e-3, train_steps=2, micro_batch=2, anchor=0.1, anchor_region="everywhere"
    )
    return train_round([rollout], [advantage_map(reward, size)], policy, {}, config, seed=1)


@contextmanager
def untouched(family: Family) -> Iterator[None]:
    """Raises AssertionError when anything about the host's model is another afterwards."""
    import comfy.model_management as management

    def look() -> tuple[Any, ...]:
        network = family.model.model
        return (
            [(name, type(module)) for name, module in network.named_modules()],
            [(n, p.requires_grad, p.dtype, p.device, p.shape, p.grad is None)
             for n, p in network.named_parameters()],
            sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.modules()),
            [name for name, m in network.named_modules() if "forward" in m.__dict__],
            sorted(family.model.patches), dict(family.model.model_options),
            getattr(management, "in_training", None),
        )  # fmt: skip

    before, pictures = look(), family.hosts("euler")
    bits = {name: tensor.clone() for name, tensor in family.network.state_dict().items()}
    yield
    if look() != before:
        raise AssertionError("the host's model is not as it was")
    after = family.network.state_dict()
    if after.keys() != bits.keys() or not all(torch.equal(after[n], bits[n]) for n in bits):
        raise AssertionError("the host's weights have other bits")
    if not torch.equal(family.hosts("euler"), pictures):
        raise AssertionError("the host samples other pictures than before")
