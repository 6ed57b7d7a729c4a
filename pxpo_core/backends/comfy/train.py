"""One round's update on ComfyUI MODELs."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...credit import Advantage
from ...lora import LoRALayers, Policy
from ...update import Experience, Progress, UpdateConfig, UpdateResult, update_policy
from .rollout import Rollout
from .session import ReplaySession


def train_round(
    rollouts: Sequence[Rollout],
    advantages: Sequence[Advantage],
    policy: Policy,
    optimizer: Mapping[str, Tensor],
    config: UpdateConfig,
    seed: int,
    progress: Progress | None = None,
) -> UpdateResult:
    """Replay the rollouts with gradients and train their common policy.

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
        return update_policy(experiences, layers, optimizer, config, seed, progress)
