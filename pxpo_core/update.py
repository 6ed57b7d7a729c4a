"""One round's training: gradient steps on a LoRA from rollouts and their advantage maps."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .gradient import (
    Experience,
    Predictions,
    accumulate_gradient,
    anchored_batches,
    micro_batches,
    reference_predictions,
)
from .lora import LoRALayers, Policy
from .loss_scale import scales_to_try, unscale
from .optimizer import make_optimizer, optimizer_state
from .update_config import UpdateConfig
from .workers import SingleProcess, Workers, sum_gradients

__all__ = [
    "Experience",
    "NonFiniteUpdateError",
    "Progress",
    "UpdateConfig",
    "UpdateResult",
    "choose_steps",
    "update_policy",
]

Progress = Callable[[int, int], None]
"""Called as progress(model calls done, model calls in all)."""


@dataclass(frozen=True, slots=True)
class UpdateResult:
    """The new weights, the optimizer's state, and numbers for people.

    grad_norm: before clipping, of the last step. kl: anchor KL per element, 0 without an anchor.
    micro_batch: of the settings the update was made with. optimizer_steps: how many were taken.
    stopped: what ended the update before its last step, see `update_policy`; raise it in the end.
    """

    policy: Policy
    optimizer: Mapping[str, Tensor]
    grad_norm: float
    kl: float
    trained_steps: tuple[int, ...]
    learning_rate: float
    micro_batch: int
    optimizer_steps: int = 0
    stopped: BaseException | None = None


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
    workers: Workers | None = None,
    ends: tuple[type[BaseException], ...] = (),
) -> UpdateResult:
    """Train `layers` in place on one round and return the new policy.

    experiences: one or more rollouts of the current policy; every image weighs the same.
    optimizer: state of the run's AdamW, or empty; forgotten where the round says the opposite of
    the ones before, whose momentum would go on for rounds. seed: draws the trained steps. workers:
    other processes that hold other images of the same rollouts; all of them take the same step.
    ends: exceptions that end the update with the steps taken so far; before the first one they are
    raised. Not for several workers, which would wait for each other.
    Without any signal (all advantages 0) the weights do not change and no step is taken.
    Raises NonFiniteUpdateError if a gradient is not finite, before its step; `layers` may have
    taken the steps before it, so they are discarded then, and the run's policy is as it was.
    """
    workers = workers or SingleProcess()
    batches, strength = _signal(experiences, workers)
    learning_rate = config.learning_rate * strength
    opposite = any(experience.advantage.opposite for experience in experiences)
    adam = make_optimizer(layers, learning_rate, {} if opposite else optimizer)
    generator = torch.Generator().manual_seed(seed)
    chosen = [
        choose_steps(e.trajectory.trainable, config.train_steps, generator) for e in experiences
    ]
    result_norm, kl, taken = 0.0, 0.0, 0
    stopped: BaseException | None = None
    if strength > 0.0:
        counter = _Counter(_model_calls(experiences, chosen, config), progress)
        parts = [
            _Part(e, steps, share, reference_predictions(e, steps, config, counter.tick))
            for e, steps, share in zip(
                experiences, chosen, _shares(experiences, batches), strict=True
            )
        ]
        scales = scales_to_try(sum(batches) * experiences[0].trajectory.x_0[0].numel())
        for _ in range(config.steps_per_rollout):
            try:
                result_norm, kl = _gradient(parts, layers, config, scales, counter, workers)
            except ends as error:
                if taken == 0:
                    raise
                stopped = error.with_traceback(None)  # which would hold on to the gradient's memory
                break
            adam.step()
            taken += 1
    return UpdateResult(
        policy=layers.policy(),
        optimizer=optimizer_state(adam, layers),
        grad_norm=result_norm,
        kl=kl,
        trained_steps=tuple(sorted({step for steps in chosen for step in steps})),
        learning_rate=learning_rate,
        micro_batch=config.micro_batch,
        optimizer_steps=taken,
        stopped=stopped,
    )


@dataclass(frozen=True, slots=True)
class _Part:
    """One rollout of the round. share: of the round's images. first_pass: see `Predictions`."""

    experience: Experience
    steps: Sequence[int]
    share: float
    references: Predictions
    first_pass: Predictions = field(default_factory=dict)


def _gradient(
    parts: Sequence[_Part],
    layers: LoRALayers,
    config: UpdateConfig,
    scales: Sequence[float],
    counter: "_Counter",
    workers: Workers,
) -> tuple[float, float]:
    """Fill the layers' .grad, clipped; returns its norm before clipping and the KL to the base.

    scales: of the loss, tried until the gradient is finite. All processes try the same ones. Raises
    NonFiniteUpdateError after the last.
    """
    norm = math.nan
    for attempt, scale in enumerate(scales):
        if attempt > 0:
            counter.expect(
                sum(_gradient_calls(part.experience, part.steps, config) for part in parts)
            )
        for parameter in layers.parameters.values():
            parameter.grad = None
        own_kl, seen = 0.0, [dict(part.first_pass) for part in parts]
        for part, first in zip(parts, seen, strict=True):
            own_kl += accumulate_gradient(
                part.experience, part.steps, part.share, config, part.references, first, scale,
                counter.tick,
            )  # fmt: skip
        kl = float(workers.sum(torch.tensor(own_kl, dtype=torch.float64)))
        sum_gradients(layers.parameters.values(), workers)
        unscale(layers.parameters.values(), scale)
        clip = torch.nn.utils.clip_grad_norm_
        norm = float(clip(layers.parameters.values(), config.max_grad_norm))
        if math.isfinite(norm):
            for part, first in zip(parts, seen, strict=True):
                part.first_pass.update(first)
            return norm, kl
    raise NonFiniteUpdateError(
        f"The training gradient is not a finite number ({norm}); nothing was changed. Lower the "
        "learning rate, or check the model's precision."
    )


def _signal(experiences: Sequence[Experience], workers: Workers) -> tuple[list[float], float]:
    """Images of each rollout, and how much of the learning rate the round's signal earns.

    Both over all processes; a rollout without a signal in any of them earns nothing.
    """
    own = [[e.trajectory.batch, float(not e.advantage.is_zero)] for e in experiences]
    whole = workers.sum(torch.tensor(own, dtype=torch.float64))
    batches: list[float] = whole[:, 0].tolist()
    square = sum(
        batch / sum(batches) * e.advantage.strength**2
        for e, batch, marked in zip(experiences, batches, whole[:, 1], strict=True)
        if marked
    )
    return batches, math.sqrt(square)


def _shares(experiences: Sequence[Experience], batches: Sequence[float]) -> list[float]:
    """What each rollout counts, so that every image of the round weighs the same.

    A path's image has as many terms as steps; noise levels of a finished one are samples of one.
    """
    levels = [len(e.trajectory.trainable) for e in experiences]
    usual = sum(n * batch for n, batch in zip(levels, batches, strict=True)) / sum(batches)
    return [
        e.trajectory.batch / sum(batches) * (usual / n if e.trajectory.process == "forward" else 1)
        for e, n in zip(experiences, levels, strict=True)
    ]


def _model_calls(
    experiences: Sequence[Experience], chosen: Sequence[Sequence[int]], config: UpdateConfig
) -> int:
    total = 0
    for experience, steps in zip(experiences, chosen, strict=True):
        held = len(anchored_batches(experience, config))
        total += len(steps) * held
        total += config.steps_per_rollout * _gradient_calls(experience, steps, config)
    return total


def _gradient_calls(experience: Experience, steps: Sequence[int], config: UpdateConfig) -> int:
    return len(steps) * len(micro_batches(experience, config))


class _Counter:
    """Counts model calls towards a known total."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def expect(self, more: int) -> None:
        self._total += more

    def tick(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, self._total)
