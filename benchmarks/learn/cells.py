"""What is measured: cells, how long they run, and which are still to do. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pxpo_core.update_config import UpdateConfig

GAINS: Mapping[str, tuple[float, ...]] = {
    "blue": (0.04, 0.10),
    "hair": (1 / 3, 2 / 3),
    "region": (0.04, 0.10),
    "alignment": (0.10, 0.20),
    "single_image": (0.25, 0.5),
    "single_image_one": (0.25, 0.5),
    "single_image_like": (),
}
"""What is raced to, by task."""

BRANCHES = 4
ROUNDS = 10
HELD_OUT_BRANCHES = 16
SAME_PICTURE = {"single_image": BRANCHES, "single_image_one": 1, "single_image_like": BRANCHES}
"""Tasks that begin with one x_T again and again, and how many pictures a round paints of it."""

RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
FINAL_SEEDS = tuple(range(8))
TUNING_SEEDS = (1000, 1001, 1002)


@dataclass(frozen=True, order=True)
class Cell:
    """One run: a method learns a task from one seed."""

    task: str
    method: str
    rate: float
    batch: int
    seed: int

    @property
    def tuning(self) -> bool:
        """Tuning seeds choose the learning rate and never enter a result."""
        return self.seed in TUNING_SEEDS


@dataclass(frozen=True)
class Protocol:
    """budget: training images at most. evaluations: after how many images, rising. held_out:
    pictures per evaluation."""

    budget: int
    evaluations: tuple[int, ...]
    held_out: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def protocol(task: str, budget: int, held_out: int) -> Protocol:
    """Looks often enough to tell 4 images apart early on; tuning and final runs look alike.

    A single picture is painted ten times and looked at after every second round.
    """
    if task in SAME_PICTURE:
        pictures = SAME_PICTURE[task]
        budget, held_out = pictures * ROUNDS, min(held_out, HELD_OUT_BRANCHES)
        times: Iterable[int] = range(2 * pictures, budget + 1, 2 * pictures)
    else:
        early, late = (*range(8, 33, 4), 48, 64, 96, 128), range(192, 513, 64)
        times = (*(t for t in (*early, *late, *range(640, 5121, 128)) if t < budget), budget)
    return Protocol(budget, tuple(times), held_out)


def seconds_of(
    config: UpdateConfig, steps: int, plan: Protocol, call: float, gradient: float
) -> float:
    """Estimated duration of a cell that trains with `config`. call, gradient: seconds per image of
    a guided prediction without and with its gradient; every image takes `steps` predictions, and a
    gradient per trained step and optimizer step."""
    trained = min(config.train_steps, steps - 1) * config.steps_per_rollout
    sampled = plan.budget + plan.held_out * len(plan.evaluations)
    return sampled * steps * call + plan.budget * trained * gradient


def missing(
    wanted: Sequence[Cell], done: Iterable[Mapping[str, Any]], plan: Protocol
) -> list[Cell]:
    """The wanted cells that no record answers.

    A record answers if it looked at as many pictures, and went as far or was over earlier.
    """
    have = {
        key_of(r)
        for r in done
        if r["protocol"]["held_out"] >= plan.held_out
        and (r["stopped"] != "budget" or r["protocol"]["budget"] >= plan.budget)
    }
    return [cell for cell in wanted if cell not in have]


def key_of(record: Mapping[str, Any]) -> Cell:
    return Cell(record["task"], record["method"], record["rate"], record["batch"], record["seed"])
