"""Replaying a rollout with gradients gives the predictions it was sampled with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from pxpo_core.lora import LoRALayers
from pxpo_core.objective import log_ratio
from pxpo_core.update import UpdateConfig

CONFIG = UpdateConfig(learning_rate=1e-2, train_steps=2, micro_batch=2)


def replayed_means(rollout: Any, groups: Sequence[range]) -> dict[int, torch.Tensor]:
    """Transition means of every stochastic step, with the batch cut into `groups`."""
    from pxpo_core.backends.comfy.session import ReplaySession

    trajectory = rollout.trajectory
    with torch.inference_mode(False):
        layers = LoRALayers(rollout.policy)

        def work(denoise: Any) -> dict[int, torch.Tensor]:
            means = {}
            for t in trajectory.trainable:
                step, x = trajectory.steps[t], trajectory.states[t].clone()
                parts = [denoise(x[list(g)], step.sigma_t, g) for g in groups]
                assert all(part.requires_grad for part in parts)
                means[t] = step.mean(x, torch.cat(parts)).detach()
            return means

        return ReplaySession(rollout.job, layers)(work)


def test_same_batch_replays_bit_for_bit(tiny: Any) -> None:
    """x_s rebuilt from the replayed mean is the stored one: the ratio is exactly 1."""
    policy = tiny.train(tiny.rollout(tiny.policy()), CONFIG).policy
    rollout = tiny.rollout(policy, batch=4)
    trajectory = rollout.trajectory
    for t, mean in replayed_means(rollout, [range(4)]).items():
        again = mean + trajectory.steps[t].std * trajectory.noises[t]
        assert torch.equal(again, trajectory.states[t + 1])


def test_other_batch_sizes_deviate_little(tiny: Any) -> None:
    """Per pixel, a batch of 1 instead of 4 moves the ratio by 2.4e-6 here (float32, CPU)."""
    policy = tiny.train(tiny.rollout(tiny.policy()), CONFIG).policy
    rollout = tiny.rollout(policy, batch=4)
    trajectory = rollout.trajectory
    whole = replayed_means(rollout, [range(4)])
    single = replayed_means(rollout, [range(i, i + 1) for i in range(4)])
    worst = max(
        float((log_ratio(single[t], whole[t], z, trajectory.steps[t].std).exp() - 1).abs().max())
        for t, z in enumerate(trajectory.noises[: len(whole)])
    )
    assert worst < 1e-4


def test_sampling_a_part_of_a_batch_gives_the_same_pictures(tiny: Any) -> None:
    """A sample's noise belongs to the sample: batches of 7 and of 1 draw the same pictures."""
    policy = tiny.train(tiny.rollout(tiny.policy()), CONFIG).policy
    seven, one = tiny.rollout(policy, batch=7), tiny.rollout(policy, batch=1)
    difference = (seven.trajectory.x_0[:1] - one.trajectory.x_0).abs().max()
    assert float(difference) < 1e-3 * float(one.trajectory.x_0.std())
