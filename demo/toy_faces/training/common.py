"""Pieces shared by all training stages."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

M = TypeVar("M", bound=torch.nn.Module)

log = logging.getLogger("toy_faces.train")


@dataclass(frozen=True)
class StageReport:
    """What a stage leaves for metadata.json."""

    name: str
    steps: int
    wall_seconds: float
    cpu_seconds: float
    figures: dict[str, float]


class Stopwatch:
    """Wall and CPU seconds of this process since creation, plus those of an interrupted run."""

    def __init__(self) -> None:
        self._wall, self._cpu = -time.perf_counter(), -time.process_time()

    def elapsed(self) -> tuple[float, float]:
        """Wall and CPU seconds so far."""
        return self._wall + time.perf_counter(), self._cpu + time.process_time()

    def add(self, wall: float, cpu: float) -> None:
        """Count the seconds of an earlier, interrupted run."""
        self._wall += wall
        self._cpu += cpu

    def report(self, name: str, steps: int, **figures: float) -> StageReport:
        """Close the stage with its figures, rounded for reading."""
        rounded = {k: round(v, 5) for k, v in figures.items()}
        wall, cpu = self.elapsed()
        log.info("%s: %d steps, %.0f s wall, %.0f s CPU, %s", name, steps, wall, cpu, rounded)
        return StageReport(name, steps, round(wall, 1), round(cpu, 1), rounded)


def warmup_cosine(step: int, total: int, warmup: int, floor: float = 0.02) -> float:
    """Learning-rate factor: linear warm-up, then a half cosine down to `floor`."""
    if step < warmup:
        return (step + 1) / warmup
    t = (step - warmup) / max(1, total - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, t)))


def trapezoid(step: int, total: int, warmup: int, decay: float = 0.3, floor: float = 0.02) -> float:
    """Learning-rate factor: linear warm-up, constant, linear to `floor` over the last `decay`."""
    left = (total - step) / (decay * total)
    return min(1.0, (step + 1) / warmup, floor + (1 - floor) * left)


def channels_last(module: M) -> M:
    """The module with its convolution weights in the memory format that is fastest on the CPU."""
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def apply_step(
    optimizer: torch.optim.Optimizer,
    parameters: Iterable[Tensor],
    loss: Tensor,
    lr: float,
    clip: float,
) -> None:
    """One clipped optimizer step at learning rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(list(parameters), clip)
    optimizer.step()
