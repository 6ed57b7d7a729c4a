"""Memory runs out in the update: smaller steps, the same result, and a sentence at the end."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pxpo_core.update import UpdateConfig

ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
]


def fail_above(monkeypatch: pytest.MonkeyPatch, size: int, error: Exception) -> list[int]:
    """The model refuses more than `size` pictures at once; returns what was asked of it."""
    from pxpo_core.backends.comfy import session

    call = session._GuidedDenoiser.__call__
    asked: list[int] = []

    def limited(self: Any, x: torch.Tensor, sigma: float, samples: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            asked.append(len(x))
            if len(x) > size:
                raise error
        return call(self, x, sigma, samples)

    monkeypatch.setattr(session._GuidedDenoiser, "__call__", limited)
    return asked


@pytest.mark.parametrize("error", ERRORS, ids=["cuda", "cpu", "mps"])
def test_the_update_takes_fewer_pictures_at_once(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    rollout = tiny.rollout(tiny.policy(), batch=4)
    small = tiny.train(rollout, UpdateConfig(micro_batch=1, steps_per_rollout=2))
    asked = fail_above(monkeypatch, 1, error)
    result = tiny.train(rollout, UpdateConfig(micro_batch=8, steps_per_rollout=2))
    assert result.micro_batch == 1
    assert sorted(set(asked)) == [1, 2, 4]
    assert result.policy.digest == small.policy.digest, "nothing of the failed attempts is left"


def test_memory_that_runs_out_late_leaves_no_trace(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the first optimizer step of two: the second attempt starts from the old weights."""
    rollout = tiny.rollout(tiny.policy(), batch=2)
    config = UpdateConfig(micro_batch=2, steps_per_rollout=2, train_steps=2)
    small = tiny.train(rollout, UpdateConfig(micro_batch=1, steps_per_rollout=2, train_steps=2))
    calls = [0]

    def late(done: int, total: int) -> None:
        calls[0] += 1
        if calls[0] == total and total == 4:  # the last call of the first attempt
            raise ERRORS[0]

    result = tiny.train(rollout, config, late)
    assert result.micro_batch == 1
    assert result.policy.digest == small.policy.digest


def test_when_nothing_helps_three_settings_are_named(
    tiny: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pxpo_core.backends.comfy.train import UpdateMemoryError

    rollout = tiny.rollout(tiny.policy(), batch=3)
    before = tiny.fingers()
    asked = fail_above(monkeypatch, 0, ERRORS[0])
    with pytest.raises(UpdateMemoryError, match=r"smaller pictures.*cfg 1.*target_modules"):
        tiny.train(rollout, UpdateConfig(micro_batch=8))
    assert min(asked) == 1
    assert tiny.fingers() == before, "the model is as it was"


def test_other_errors_are_not_taken_for_it(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = tiny.rollout(tiny.policy(), batch=2)
    asked = fail_above(monkeypatch, 0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        tiny.train(rollout, UpdateConfig())
    assert len(asked) == 1
