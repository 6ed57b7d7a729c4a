"""Processes that share a round take the step that one process alone would take, in float64."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from pxpo_core.credit import Advantage, advantage_map
from pxpo_core.lora import LoRAConfig, LoRALayers, Policy
from pxpo_core.rollout import Trajectory, draw_noise, sample_trajectory
from pxpo_core.update import Experience, UpdateConfig, UpdateResult, update_policy
from pxpo_core.workers import SingleProcess, gather_rows, shard, sum_gradients

SIGMAS = (8.0, 3.0, 1.0, 0.3, 0.0)


class Threads:
    """`Workers` in threads of one process: sums meet at a barrier."""

    def __init__(self, count: int) -> None:
        self.count, self._parts = count, [torch.empty(0)] * count
        self._barrier = threading.Barrier(count, timeout=30.0)
        self._own = threading.local()
        self.messages: list[int] = []

    @property
    def rank(self) -> int:
        return int(self._own.rank)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        self._parts[self.rank] = values
        self._barrier.wait()
        total = torch.stack(self._parts).sum(dim=0)
        if self.rank == 0:
            self.messages.append(values.numel())
        self._barrier.wait()
        return total

    def run(self, work: Callable[[], Any]) -> list[Any]:
        def start(rank: int) -> Any:
            self._own.rank = rank
            return work()

        with ThreadPoolExecutor(self.count) as pool:
            return list(pool.map(start, range(self.count)))


class Session:
    """A tiny model with its LoRA."""

    def __init__(self, layers: LoRALayers | None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.model, self.layers = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1)).double(), layers
        for parameter in self.model.parameters():
            parameter.requires_grad_(False).normal_(std=0.5, generator=generator)

    def __call__(self, work: Callable[[Any], Any]) -> Any:
        def denoise(x: torch.Tensor, sigma: float, samples: Sequence[int]) -> torch.Tensor:
            return torch.tanh(self.model(x.double() / (1.0 + sigma**2) ** 0.5))

        if self.layers is None:
            return work(denoise)
        with self.layers.attached(self.model):
            return work(denoise)


@pytest.fixture
def policy() -> Policy:
    generator = torch.Generator().manual_seed(0)
    shapes = {"0.lora_down.weight": (2, 2, 3, 3), "0.lora_up.weight": (2, 2, 1, 1)}
    tensors = {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }
    return Policy(LoRAConfig(r=2, lora_alpha=2.0, target_modules="all layers"), tensors)


def rollout(policy: Policy, batch: int, seed: int) -> tuple[Trajectory, Advantage]:
    noise = draw_noise((2, 3, 4), 5, seed, 0, range(batch)).double()

    def sample(denoise: Any) -> Trajectory:
        return sample_trajectory(denoise, SIGMAS[0] * noise[0], noise[1:], SIGMAS, "vp", 1.0)

    with torch.no_grad():
        trajectory = Session(LoRALayers(policy))(sample)
    reward = torch.randn((batch, 3, 4), generator=torch.Generator().manual_seed(seed))
    reward[0] = 0.0
    return trajectory, advantage_map(reward, (3, 4))


def rows(part: tuple[Trajectory, Advantage], held: range) -> tuple[Trajectory, Advantage]:
    (trajectory, advantage), chosen = part, slice(held.start, held.stop)
    assert advantage.unmarked is not None
    return (
        replace(
            trajectory, states=trajectory.states[:, chosen], noises=trajectory.noises[:, chosen],
            x_0=trajectory.x_0[chosen],
        ),
        replace(
            advantage, values=advantage.values[chosen], unmarked=advantage.unmarked[chosen]
        ),
    )  # fmt: skip


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("batches", [(7,), (4, 3)], ids=str)
def test_the_update_is_the_one_of_a_single_process(
    policy: Policy, count: int, batches: tuple[int, ...]
) -> None:
    config = UpdateConfig(
        learning_rate=1e-2, train_steps=2, steps_per_rollout=2, micro_batch=2, anchor=0.1,
        anchor_region="everywhere", max_grad_norm=1e-3,
    )  # fmt: skip
    whole = [rollout(policy, batch, seed) for seed, batch in enumerate(batches)]
    if len(batches) > 1:  # one rollout has a signal in one process only, the other in none
        signal = torch.zeros_like(whole[0][1].values)
        signal[-1] = whole[0][1].values[-1]
        whole[0] = whole[0][0], replace(whole[0][1], values=signal)
        whole[1] = whole[1][0], replace(whole[1][1], values=0.0 * whole[1][1].values)

    def train(workers: Any) -> UpdateResult:
        layers = LoRALayers(policy)
        experiences = [
            Experience(
                *rows(part, shard(part[0].batch, workers)), Session(layers), Session(None)
            )
            for part in whole
        ]  # fmt: skip
        return update_policy(experiences, layers, {}, config, seed=4, workers=workers)

    alone = train(SingleProcess())
    threads = Threads(count)
    together = threads.run(lambda: train(threads))
    assert {result.policy.digest for result in together} == {together[0].policy.digest}
    assert together[0].learning_rate == pytest.approx(alone.learning_rate, rel=1e-12)
    assert together[0].grad_norm == pytest.approx(alone.grad_norm, rel=1e-9)
    assert together[0].kl == pytest.approx(alone.kl, rel=1e-9)
    for name, start in policy.tensors.items():
        moved = alone.policy.tensors[name] - start
        assert float(moved.abs().max()) > 1e-4
        torch.testing.assert_close(
            together[0].policy.tensors[name] - start, moved, rtol=1e-6, atol=1e-9
        )
    trained = sum(tensor.numel() for tensor in policy.tensors.values())
    assert threads.messages.count(trained) == config.steps_per_rollout


@pytest.mark.parametrize("total", [0, 1, 2, 7, 8])
def test_shards_cover_everything_once(total: int) -> None:
    threads = Threads(3)
    parts = threads.run(lambda: shard(total, threads))
    assert [i for part in parts for i in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_rows_come_back_in_order() -> None:
    threads, whole = Threads(3), torch.arange(14, dtype=torch.uint8).reshape(7, 2)

    def gather() -> torch.Tensor:
        held = shard(7, threads)
        return gather_rows(whole[held.start : held.stop], held, 7, threads)

    assert all(torch.equal(result, whole) for result in threads.run(gather))


def test_a_parameter_without_a_gradient_somewhere_gets_the_others() -> None:
    threads = Threads(2)

    def work() -> torch.Tensor:
        parameter = nn.Parameter(torch.zeros(2, 3))
        if threads.rank == 1:
            parameter.grad = torch.ones(2, 3)
        sum_gradients([parameter], threads)
        assert parameter.grad is not None
        return parameter.grad

    assert all(torch.equal(gradient, torch.ones(2, 3)) for gradient in threads.run(work))
