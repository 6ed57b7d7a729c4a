"""One round's update on ComfyUI MODELs, with smaller steps when memory runs out."""

import gc
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import comfy.model_management
import torch
from torch import Tensor

from ...credit import Advantage
from ...lora import LoRALayers, Policy
from ...update import Experience, Progress, UpdateConfig, UpdateResult, update_policy
from .backward import Backward
from .measuring import not_repeatable, try_one_picture
from .memory_plan import USABLE, USABLE_ON_CPU, TrainingPlan, plan_training
from .rollout import Rollout
from .saved_memory import LeftOverGraphError
from .session import ReplaySession

logger = logging.getLogger(__name__)


class UpdateMemoryError(RuntimeError):
    """The update does not fit into memory, not even one picture at a time."""


def train_round(
    rollouts: Sequence[Rollout],
    advantages: Sequence[Advantage],
    policy: Policy,
    optimizer: Mapping[str, Tensor],
    config: UpdateConfig,
    seed: int,
    progress: Progress | None = None,
    planned: Callable[[TrainingPlan], None] | None = None,
    keep_partial: bool = False,
) -> UpdateResult:
    """Replay the rollouts with gradients and train their common policy.

    config.micro_batch is the most pictures trained at once; fewer are where memory is short, and
    `planned` hears of it before training starts. When memory runs out all the same, starts again
    with half as many; the result says how many it were. Raises UpdateMemoryError when one picture
    is too much, NotRepeatableError when the model keeps something of the step before, or replays a
    sampled path differently. keep_partial: an interrupt after the first optimizer step ends the
    update with what was learned so far.
    """
    ends = (comfy.model_management.InterruptProcessingException,) if keep_partial else ()
    largest = max(rollout.trajectory.batch for rollout in rollouts)
    plan = _plan(rollouts[0], policy, min(config.micro_batch, largest))
    backward = Backward()
    if plan is not None:
        backward, config = plan.backward, replace(config, micro_batch=plan.micro_batch)
        logger.info("%s.", plan.text)
        if planned is not None:
            planned(plan)
    while True:
        try:
            return _train(
                rollouts, advantages, policy, optimizer, config, seed, progress, backward, ends
            )
        except RuntimeError as error:
            if isinstance(error, LeftOverGraphError) or "graph a second time" in str(error):
                kept = "one of its steps keeps something of the step before"
                raise not_repeatable(rollouts[0], kept) from error
            overwritten = "inplace operation" in str(error)
            if not (_out_of_memory(error) or (overwritten and not backward.copies)):
                raise
        if overwritten:
            logger.info("The model works in place; training it with copies.")
            backward = replace(backward, copies=True)
            continue
        # Outside the except block: the error holds on to the tensors of the failed attempt.
        gc.collect()
        comfy.model_management.soft_empty_cache()
        tried = min(config.micro_batch, largest)
        if tried == 1 and not backward.checkpointing:
            logger.warning("Memory ran out while training one picture at a time; repeating parts.")
            backward = replace(backward, checkpointing=True)
            continue
        if tried == 1:
            raise UpdateMemoryError(
                "Memory ran out while training one picture at a time; the run is as it was. These "
                "settings help: smaller pictures (width and height of the latent), cfg 1 in the "
                'DDIM LogProb Sampler (half the memory), and target_modules "attention" in a new '
                "PXPO Training Run."
            )
        config = replace(config, micro_batch=tried // 2)
        logger.warning(
            "Memory ran out while training %d pictures at once; trying %d.",
            tried,
            config.micro_batch,
        )


def _plan(rollout: Rollout, policy: Policy, most: int) -> TrainingPlan | None:
    """What one picture says about all of them; None when not even that has the memory."""
    with torch.inference_mode(False), torch.enable_grad():
        layers = LoRALayers(policy, rollout.job.model.load_device)
        try:
            trial = try_one_picture(rollout, layers)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            return None
    on_cpu = comfy.model_management.is_device_cpu(rollout.job.model.load_device)
    share = USABLE_ON_CPU if on_cpu else USABLE
    return plan_training(trial.measured, most, trial.available, share)


def _copied(advantage: Advantage) -> Advantage:
    parts = {field.name: getattr(advantage, field.name) for field in fields(advantage)}
    copies: dict[str, Any] = {n: v.clone() for n, v in parts.items() if isinstance(v, Tensor)}
    return replace(advantage, **copies)


def _out_of_memory(error: RuntimeError) -> bool:
    """Whether memory ran out. Only CUDA has an exception of its own for it."""
    text = str(error).lower()
    return (
        isinstance(error, torch.cuda.OutOfMemoryError)
        or "out of memory" in text
        or "defaultcpuallocator" in text
    )


def _train(
    rollouts: Sequence[Rollout],
    advantages: Sequence[Advantage],
    policy: Policy,
    optimizer: Mapping[str, Tensor],
    config: UpdateConfig,
    seed: int,
    progress: Progress | None,
    backward: Backward,
    ends: tuple[type[BaseException], ...],
) -> UpdateResult:
    """One attempt, from fresh layers on.

    Callable from a node, where everything runs in inference mode: what is trained or saved for
    backward is copied out of it first.
    """
    with torch.inference_mode(False), torch.enable_grad():
        layers = LoRALayers(policy, rollouts[0].job.model.load_device)
        experiences = [
            Experience(
                trajectory=replace(
                    rollout.trajectory,
                    states=rollout.trajectory.states.clone(),
                    noises=rollout.trajectory.noises.clone(),
                ),
                advantage=_copied(advantage),
                session=ReplaySession(rollout.job, layers, backward),
                reference=ReplaySession(rollout.job, None) if config.anchor > 0.0 else None,
            )
            for rollout, advantage in zip(rollouts, advantages, strict=True)
        ]
        return update_policy(experiences, layers, optimizer, config, seed, progress, ends=ends)
