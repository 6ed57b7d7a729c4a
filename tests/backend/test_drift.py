"""The distance to the base model, called the way the host samples."""

from __future__ import annotations

from typing import Any

from pxpo_core.drift import path_drift
from pxpo_core.update import UpdateConfig


def test_the_base_models_own_path_has_not_drifted_and_a_trained_ones_has(tiny: Any) -> None:
    from pxpo_core.backends.comfy.drift import rollouts_drift
    from pxpo_core.backends.comfy.session import BaseSession

    before = tiny.fingers()
    first = tiny.rollout(tiny.policy(), batch=2)
    assert path_drift(first.trajectory, BaseSession(first.job), 2) < 1e-9
    assert rollouts_drift([first]) == 0.0
    drifts = []
    for rate in (1e-3, 1e-2):
        config = UpdateConfig(learning_rate=rate, train_steps=2, micro_batch=2)
        second = tiny.rollout(tiny.train(first, config).policy, batch=2)
        drifts.append(rollouts_drift([second]))
    assert 1e-7 < drifts[0] < drifts[1]
    assert tiny.fingers() == before
