"""One round's update on ComfyUI MODELs, with smaller steps when memory runs out."""

import gc
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import comfy.model_management
import torch
from torch import Tensor

from ...credit import Advantage
from ...lora import LoRALayers, Policy
from ...update import Experience, Progress, UpdateConfig, UpdateResult, update_policy
from .rollout import Rollout
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
    keep_partial: bool = False,
) -> UpdateResult:
    """Replay the rollouts with gradients and train their common policy.

    When memory runs out, starts again with half as many pictures at once; the result says how many
    it were. keep_partial: an interrupt after the first optimizer step ends the update with what was
    learned so far. Raises UpdateMemoryError when one picture is too much.
    """
    ends = (comfy.model_management.InterruptProcessingException,) if keep_partial else ()
    largest = max(rollout.trajectory.batch for rollout in rollouts)
    while True:
        try:
            return _train(rollouts, advantages, policy, optimizer, config, seed, progress, ends)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
        # Outside the except block: the error holds on to the tensors of the failed attempt.
        gc.collect()
        comfy.model_management.soft_empty_cache()
        tried = min(config.micro_batch, largest)
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
                advantage=replace(advantage, values=advantage.values.clone()),
                session=ReplaySession(rollout.job, layers),
                reference=ReplaySession(rollout.job, None) if config.anchor > 0.0 else None,
            )
            for rollout, advantage in zip(rollouts, advantages, strict=True)
        ]
        return update_policy(experiences, layers, optimizer, config, seed, progress, ends=ends)
