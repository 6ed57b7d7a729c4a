"""Two processes on the CPU, started by Accelerate, take the step of one process."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pxpo_core.run import RunHead, RunStore
from pxpo_core.training.config import read_config

TOLERANCE = 1e-4
"""Largest difference allowed between the updates, relative to the update, in float32."""

LAUNCH = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")


def flat(tensors: object, part: str = "") -> torch.Tensor:
    assert isinstance(tensors, dict)
    return torch.cat([tensors[n].flatten().double() for n in sorted(tensors) if n.endswith(part)])


@pytest.mark.parametrize("judge", [False, True], ids=["fitted", "judged"])
def test_the_update_is_the_one_of_a_single_process(
    judge: bool,
    write_config: Callable[..., Path],
    command: Callable[..., subprocess.CompletedProcess[str]],
    record_property: pytest.RecordProperty,
) -> None:
    """From round 1 on, made by one process and copied, so that both start from the same bits."""
    from pxpo_core.training.loop import train

    torch.set_num_threads(1)  # as the launched processes: other thread counts round otherwise

    def config(folder: str, rounds: int) -> Path:
        return write_config(
            f"{folder}{rounds}.toml",
            run={"folder": folder, "rounds": rounds},
            sampling={"prompts": ["a cat"], "images_per_prompt": 8},
            reward={"judge_predictions": judge},
            update={
                "micro_batch": 2,
                "learning_rate": 0.05,
                "objective": "path" if judge else "pictures",
            },
        )

    start = train(read_config(config("alone", 1)), device="cpu")
    shutil.copytree(config("alone", 1).parent / "alone", config("alone", 1).parent / "together")
    alone = train(read_config(config("alone", 2)), device="cpu")
    result = command(*LAUNCH, "-m", "pxpo_core", "train", config("together", 2))
    assert result.returncode == 0, result.stderr
    assert "2 process(es)" in result.stderr
    together = RunStore(config("together", 2).parent / "together").head("less_blue")
    assert together is not None
    assert together.round == 2
    assert together.history[-1]["processes"] == 2
    assert together.history[-1]["reward_mean"] == pytest.approx(
        alone.history[-1]["reward_mean"], abs=1e-6
    )
    update, gradient = difference(start, alone, together)
    record_property("update_difference", f"{update:.1e}")
    record_property("gradient_difference", f"{gradient:.1e}")
    assert gradient <= TOLERANCE
    assert update <= TOLERANCE


def difference(start: RunHead, alone: RunHead, together: RunHead) -> tuple[float, float]:
    """Relative difference of the weights' change, and of Adam's averaged gradients."""
    assert start.policy is not None
    assert alone.policy is not None
    assert together.policy is not None
    before = flat(start.policy.tensors)
    ours, theirs = (flat(h.policy.tensors) - before for h in (together, alone) if h.policy)
    assert float(theirs.norm()) > 1e-2
    gradients = [flat(head.optimizer, "exp_avg") for head in (together, alone)]
    return (
        float((ours - theirs).norm() / theirs.norm()),
        float((gradients[0] - gradients[1]).norm() / gradients[1].norm()),
    )
