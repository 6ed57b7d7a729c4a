"""One rollout's part of a round's gradient, micro-batch by micro-batch."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .credit import Advantage, blur
from .denoiser import Denoiser, Session
from .objective import (
    anchor_loss,
    clip_range,
    drift_weight,
    inside_trust_region,
    log_ratio,
    matching_loss,
    ratio_loss,
    step_weights,
    stored_noise_loss,
)
from .rollout import Trajectory
from .transition import Step
from .update_config import UpdateConfig

Predictions = dict[tuple[int, int], Tensor]
"""Denoised latents by (step, first sample of the micro-batch)."""

HOLD_ON_PATH = 0.1
"""What an anchor counts on the sampling path, where each step earns only its share of credit. At
full weight it slowed learning down, and pictures were no better."""

Tick = Callable[[], None]
"""Called after each model call."""


@dataclass(frozen=True, slots=True)
class Experience:
    """A trajectory, what its pixels are worth, and the model session that replays it.

    reference, for the anchor: a session of the base model (without the LoRA).
    """

    trajectory: Trajectory
    advantage: Advantage
    session: Session
    reference: Session | None = None


def accumulate_gradient(
    experience: Experience,
    steps: Sequence[int],
    share: float,
    config: UpdateConfig,
    references: Predictions,
    first_pass: Predictions,
    loss_scale: float,
    tick: Tick,
) -> float:
    """Add one rollout's gradient to the layers' .grad; returns its KL to the base per element.

    share: this rollout's part of the round's images. references: the base model's predictions, or
    empty. first_pass: filled by the first optimizer step with its predictions, which later steps
    are compared to. loss_scale: what the gradient is multiplied by.
    """
    trajectory, advantage = experience.trajectory, experience.advantage
    foresight = None
    if trajectory.process == "forward":
        foresight, advantage = advantage.foresight, replace(advantage, by_step=None)
    all_steps, trainable = trajectory.steps, trajectory.trainable
    weights = _weights(trajectory, config)
    held, batches = held_pixels(experience, config), micro_batches(experience, config)
    anchor = config.anchor * (1.0 if trajectory.process == "forward" else HOLD_ON_PATH)

    def train(denoise: Denoiser) -> float:
        kl = 0.0
        for t in steps:
            step, weight = all_steps[t], weights[t]
            credit = _credit_at(step, advantage.at(t), config.credit_growth)
            for rows in batches:
                key = (t, rows[0])
                worth = credit[rows]
                reference = references.get(key)
                if reference is None and not worth.any():
                    tick()
                    continue
                x = trajectory.states[t, rows]
                scale = share * len(x) / trajectory.batch * len(trainable) / len(steps)
                denoised = denoise(x, step.sigma_t, rows)
                if foresight is not None:
                    worth = foresight.at(denoised.detach().float().cpu(), rows)
                old = first_pass.get(key)
                if old is None and config.steps_per_rollout > 1:
                    first_pass[key] = denoised.detach()
                loss = _loss(
                    trajectory, t, rows, denoised, old, worth, weight, advantage.hold, config
                )
                if reference is not None:
                    distance = anchor_loss(
                        denoised,
                        reference.to(denoised),
                        drift_weight(step, weight, trajectory.process),
                        held[rows],
                    )
                    kl += float(distance.detach()) * scale
                    loss = loss + anchor * distance
                (loss_scale * scale * loss).backward()  # type: ignore[no-untyped-call]
                tick()
        return kl

    return experience.session(train)


def _credit_at(step: Step, advantage: Tensor, growth: float) -> Tensor:
    """Advantages spread over growth * sigma_t / a_t latent pixels, at the strength they had.

    At high noise a latent pixel decides little of its own picture, but much of its surroundings.
    """
    if growth == 0.0:
        return advantage
    radius = growth * step.sigma_t / step.a_t if step.a_t > 0.0 else math.inf
    spread = blur(advantage, radius)
    before, after = advantage.square().mean().sqrt(), spread.square().mean().sqrt()
    return spread * (before / after) if float(after) > 0.0 else spread


def _weights(trajectory: Trajectory, config: UpdateConfig) -> dict[int, float]:
    """Each trainable step's weight; the forward process counts all noise levels alike."""
    if trajectory.process == "forward":
        return dict.fromkeys(trajectory.trainable, 1.0)
    steps = [trajectory.steps[i] for i in trajectory.trainable]
    return dict(zip(trajectory.trainable, step_weights(steps, config.step_weighting), strict=True))


def _loss(
    trajectory: Trajectory,
    t: int,
    rows: list[int],
    denoised: Tensor,
    old: Tensor | None,
    advantage: Tensor,
    weight: float,
    hold: float,
    config: UpdateConfig,
) -> Tensor:
    """The objective of one micro-batch at one step; old: None at the first optimizer step."""
    step, worth = trajectory.steps[t], advantage.to(denoised)
    if trajectory.process == "forward":
        x_0 = trajectory.x_0[rows].to(denoised)
        old = denoised.detach() if old is None else old
        return matching_loss(denoised, old, x_0, worth, step, hold)
    z = trajectory.noises[t, rows].to(denoised)
    if old is None:
        return stored_noise_loss(denoised, z, worth, step, weight)
    x, pooled = trajectory.states[t, rows].to(denoised), math.isinf(config.credit_radius)
    return _ratio_form(denoised, old, x, z, worth, step, weight, pooled)


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


def reference_predictions(
    experience: Experience, steps: Sequence[int], config: UpdateConfig, tick: Tick
) -> Predictions:
    """The base model's predictions on the trained states, of pictures that have pixels to hold."""
    batches = anchored_batches(experience, config)
    if experience.reference is None or not batches:
        return {}
    trajectory = experience.trajectory

    def predict(denoise: Denoiser) -> Predictions:
        predictions: Predictions = {}
        for t in steps:
            for rows in batches:
                x = trajectory.states[t, rows]
                with torch.no_grad():
                    denoised = denoise(x, trajectory.steps[t].sigma_t, rows)
                predictions[t, rows[0]] = denoised.cpu()
                tick()
        return predictions

    return experience.reference(predict)


def held_pixels(experience: Experience, config: UpdateConfig) -> Tensor:
    """How hard the anchor holds the latent pixels to the base model: [B, h, w] 0..1."""
    advantage = experience.advantage
    values, unmarked = advantage.values, advantage.unmarked
    if config.anchor == 0.0 or experience.reference is None:
        return torch.zeros_like(values)
    if config.anchor_region == "everywhere" or unmarked is None:
        return torch.ones_like(values)
    return advantage.hold * unmarked


def micro_batches(experience: Experience, config: UpdateConfig) -> list[list[int]]:
    """The pictures that have a part in the round, by their places, as many as fit at once.

    Others, such as those nobody looked at, would only hold the model back.
    """
    advantage = experience.advantage
    has_part = held_pixels(experience, config).ne(0.0) | advantage.values.ne(0.0)
    if advantage.by_step is not None:
        has_part |= advantage.by_step.any(dim=0)
    places: list[int] = has_part.flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    size = config.micro_batch
    return [places[start : start + size] for start in range(0, len(places), size)]


def anchored_batches(experience: Experience, config: UpdateConfig) -> list[list[int]]:
    """The micro-batches that the base model has to be asked about."""
    held = held_pixels(experience, config)
    return [rows for rows in micro_batches(experience, config) if held[rows].any()]
