"""One round's training: gradient steps on a LoRA from rollouts and their advantage maps."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .credit import Advantage
from .denoiser import Denoiser, Session
from .lora import LoRALayers, Policy
from .objective import (
    StepWeighting,
    anchor_loss,
    clip_range,
    inside_trust_region,
    log_ratio,
    ratio_loss,
    step_weights,
    stored_noise_loss,
)
from .optimizer import make_optimizer, optimizer_state
from .rollout import Trajectory
from .transition import Step

Progress = Callable[[int, int], None]
"""Called as progress(model calls done, model calls in all)."""

Predictions = dict[tuple[int, int], Tensor]
"""Denoised latents by (step, first sample of the micro-batch)."""


@dataclass(frozen=True, slots=True)
class UpdateConfig:
    """How a rollout becomes a gradient step; raises ValueError naming what is out of range.

    train_steps: K, how many of the T stochastic steps are trained. steps_per_rollout: optimizer
    steps; more than 1 needs the ratio form from the second step on. anchor: weight of the KL to
    the base model. credit_radius: see `credit`; an infinite one also pools the ratio, as in DDPO.
    """

    learning_rate: float = 1e-3
    train_steps: int = 4
    steps_per_rollout: int = 1
    step_weighting: StepWeighting = "uniform"
    credit_radius: float = 0.0
    anchor: float = 0.0
    micro_batch: int = 8
    max_grad_norm: float = 1.0

    def __post_init__(self) -> None:
        for name in ("learning_rate", "max_grad_norm"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                raise ValueError(f"{name} must be a positive number, got {value}.")
        for name in ("train_steps", "steps_per_rollout", "micro_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if not (math.isfinite(self.anchor) and self.anchor >= 0.0):
            raise ValueError(f"anchor must be 0 or more, got {self.anchor}.")
        if math.isnan(self.credit_radius) or self.credit_radius < 0.0:
            raise ValueError(f"credit_radius must be 0 or more, got {self.credit_radius}.")
        if self.step_weighting not in ("uniform", "exact"):
            raise ValueError(f"step_weighting is uniform or exact, got {self.step_weighting!r}.")


@dataclass(frozen=True, slots=True)
class Experience:
    """A trajectory, what its pixels are worth, and the model session that replays it.

    reference, for the anchor: a session of the base model (without the LoRA).
    """

    trajectory: Trajectory
    advantage: Advantage
    session: Session
    reference: Session | None = None


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The new weights, the optimizer's state, and numbers for people.

    grad_norm: before clipping, of the last step. kl: anchor KL per element, 0 without an anchor.
    micro_batch: of the settings the update was made with.
    """

    policy: Policy
    optimizer: Mapping[str, Tensor]
    grad_norm: float
    kl: float
    trained_steps: tuple[int, ...]
    learning_rate: float
    micro_batch: int


class NonFiniteUpdateError(ArithmeticError):
    """The gradient is NaN or infinite; the weights were left as they were."""


def choose_steps(trainable: Sequence[int], count: int, generator: torch.Generator) -> list[int]:
    """`count` steps spread over the schedule, each step equally likely (systematic sampling)."""
    total = len(trainable)
    count = min(count, total)
    offset = float(torch.rand((), generator=generator, dtype=torch.float64))
    return [trainable[int((i + offset) * total / count)] for i in range(count)]


def update_policy(
    experiences: Sequence[Experience],
    layers: LoRALayers,
    optimizer: Mapping[str, Tensor],
    config: UpdateConfig,
    seed: int,
    progress: Progress | None = None,
) -> UpdateResult:
    """Train `layers` in place on one round and return the new policy.

    experiences: one or more rollouts of the current policy; every image weighs the same.
    optimizer: state of the run's AdamW, or empty. seed: draws the trained steps.
    Without any signal (all advantages 0) the weights do not change and no step is taken.
    Raises NonFiniteUpdateError before any weight changes if a gradient is not finite.
    """
    strength = _strength(experiences)
    learning_rate = config.learning_rate * strength
    adam = make_optimizer(layers, learning_rate, optimizer)
    generator = torch.Generator().manual_seed(seed)
    chosen = [
        choose_steps(e.trajectory.trainable, config.train_steps, generator) for e in experiences
    ]
    result_norm, kl = 0.0, 0.0
    if strength > 0.0:
        counter = _Counter(_model_calls(experiences, chosen, config), progress)
        references = [
            _reference_predictions(e, steps, config, counter)
            for e, steps in zip(experiences, chosen, strict=True)
        ]
        first_pass: list[Predictions] = [{} for _ in experiences]
        for _ in range(config.steps_per_rollout):
            adam.zero_grad(set_to_none=True)
            kl = 0.0
            for experience, steps, reference, first in zip(
                experiences, chosen, references, first_pass, strict=True
            ):
                share = experience.trajectory.batch / _images(experiences)
                kl += _accumulate(experience, steps, share, config, reference, first, counter)
            result_norm = _step(adam, layers, config.max_grad_norm)
    return UpdateResult(
        policy=layers.policy(),
        optimizer=optimizer_state(adam, layers),
        grad_norm=result_norm,
        kl=kl,
        trained_steps=tuple(sorted({step for steps in chosen for step in steps})),
        learning_rate=learning_rate,
        micro_batch=config.micro_batch,
    )


def _accumulate(
    experience: Experience,
    steps: Sequence[int],
    share: float,
    config: UpdateConfig,
    references: Predictions,
    first_pass: Predictions,
    counter: "_Counter",
) -> float:
    """Add one rollout's gradient to the layers' .grad; returns its KL to the base per element.

    share: this rollout's part of the round's images. first_pass: filled by the first optimizer
    step with its predictions, which later steps are compared to.
    """
    trajectory, advantage = experience.trajectory, experience.advantage.values
    all_steps = trajectory.steps
    trainable = trajectory.trainable
    weights = dict(
        zip(
            trainable,
            step_weights([all_steps[i] for i in trainable], config.step_weighting),
            strict=True,
        )
    )
    chunks = _chunks(trajectory.batch, config.micro_batch)

    def train(denoise: Denoiser) -> float:
        kl = 0.0
        for t in steps:
            step, weight = all_steps[t], weights[t]
            for chunk in chunks:
                key = (t, chunk.start)
                x, z = trajectory.states[t, chunk], trajectory.noises[t, chunk]
                scale = share * len(x) / trajectory.batch * len(trainable) / len(steps)
                denoised = denoise(x, step.sigma_t, range(chunk.start, chunk.stop))
                z, worth = z.to(denoised), advantage[chunk].to(denoised)
                old = first_pass.get(key)
                if old is None:
                    loss = stored_noise_loss(denoised, z, worth, step, weight)
                    if config.steps_per_rollout > 1:
                        first_pass[key] = denoised.detach()
                else:
                    pooled = math.isinf(config.credit_radius)
                    loss = _ratio_form(
                        denoised, old, x.to(denoised), z, worth, step, weight, pooled
                    )
                if references:
                    reference = references[key].to(denoised)
                    distance = anchor_loss(denoised, reference, step, weight)
                    kl += float(distance.detach()) * scale
                    loss = loss + config.anchor * distance
                (scale * loss).backward()  # type: ignore[no-untyped-call]
                counter.tick()
        return kl

    return experience.session(train)


def _ratio_form(
    denoised: Tensor,
    denoised_old: Tensor,
    x: Tensor,
    z: Tensor,
    advantage: Tensor,
    step: Step,
    weight: float,
    pooled: bool,
) -> Tensor:
    """The several-steps loss of one transition; pooled: one ratio per image, as in DDPO."""
    ratios = log_ratio(step.mean(x, denoised), step.mean(x, denoised_old), z, step.std)
    clip = clip_range(ratios)
    if pooled:
        clip = 1e-4
        ratios = ratios.mean(dim=(1, 2), keepdim=True).expand_as(ratios)
    trusted = inside_trust_region(denoised.detach(), denoised_old, ratios.detach(), advantage, step)
    return ratio_loss(ratios, advantage, clip, weight, trusted)


def _reference_predictions(
    experience: Experience, steps: Sequence[int], config: UpdateConfig, counter: "_Counter"
) -> Predictions:
    """The base model's predictions on the trained states; paid for only with an anchor."""
    if config.anchor == 0.0 or experience.reference is None:
        return {}
    trajectory = experience.trajectory
    chunks = _chunks(trajectory.batch, config.micro_batch)

    def predict(denoise: Denoiser) -> Predictions:
        predictions: Predictions = {}
        for t in steps:
            for chunk in chunks:
                x = trajectory.states[t, chunk]
                samples = range(chunk.start, chunk.stop)
                with torch.no_grad():
                    denoised = denoise(x, trajectory.steps[t].sigma_t, samples)
                predictions[t, chunk.start] = denoised.cpu()
                counter.tick()
        return predictions

    return experience.reference(predict)


def _step(adam: torch.optim.AdamW, layers: LoRALayers, max_grad_norm: float) -> float:
    """Clip the gradient's norm and step; returns the norm before clipping."""
    norm = float(torch.nn.utils.clip_grad_norm_(layers.parameters.values(), max_grad_norm))
    if not math.isfinite(norm):
        raise NonFiniteUpdateError(
            f"The training gradient is not a finite number ({norm}); nothing was changed. "
            "Lower the learning rate, or check the model's precision."
        )
    adam.step()
    return norm


def _strength(experiences: Sequence[Experience]) -> float:
    """How much of the learning rate this round's signal earns, over all its images."""
    images = _images(experiences)
    square = sum(
        e.trajectory.batch / images * e.advantage.strength**2
        for e in experiences
        if not e.advantage.is_zero
    )
    return math.sqrt(square)


def _images(experiences: Sequence[Experience]) -> int:
    return sum(e.trajectory.batch for e in experiences)


def _chunks(batch: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


def _model_calls(
    experiences: Sequence[Experience], chosen: Sequence[Sequence[int]], config: UpdateConfig
) -> int:
    total = 0
    for experience, steps in zip(experiences, chosen, strict=True):
        calls = len(steps) * len(_chunks(experience.trajectory.batch, config.micro_batch))
        anchored = config.anchor > 0.0 and experience.reference is not None
        total += calls * (config.steps_per_rollout + anchored)
    return total


class _Counter:
    """Counts model calls towards a known total."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def tick(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
