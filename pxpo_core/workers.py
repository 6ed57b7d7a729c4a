"""Data parallelism: processes that share one round's images and take the same step.

Each process holds some of every rollout's images; whatever depends on the whole round is summed.
"""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn


class Workers(Protocol):
    """The processes of one training; rank: which of the `count` this one is."""

    @property
    def rank(self) -> int: ...

    @property
    def count(self) -> int: ...

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all processes of equally shaped tensors, the same bits in each."""
        ...


class SingleProcess:
    """No other processes: every sum is what it was."""

    rank = 0
    count = 1

    def sum(self, values: Tensor) -> Tensor:
        return values


def shard(total: int, workers: Workers) -> range:
    """Which of `total` samples this process holds: contiguous, sizes differing by at most one."""
    start, stop = (total * part // workers.count for part in (workers.rank, workers.rank + 1))
    return range(start, stop)


def gather_rows(rows: Tensor, held: range, total: int, workers: Workers) -> Tensor:
    """All processes' rows as one tensor [total, ...]; held: the places of this process's rows."""
    whole = rows.new_zeros((total, *rows.shape[1:]))
    whole[held.start : held.stop] = rows
    return workers.sum(whole)


def sum_gradients(parameters: Iterable[nn.Parameter], workers: Workers) -> None:
    """Add up every parameter's .grad over the processes, in one message."""
    if workers.count == 1:
        return
    trained = list(parameters)
    own = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    summed = workers.sum(torch.cat([gradient.flatten() for gradient in own]))
    parts = torch.split(summed, [p.numel() for p in trained])
    for parameter, part in zip(trained, parts, strict=True):
        parameter.grad = part.view_as(parameter).clone()
