"""The last rollout of a run is given back for the same inputs, and only for those."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .conftest import Tiny


def key(tiny: Tiny, job: Any) -> str | None:
    from pxpo_core.backends.comfy.kept_rollouts import input_key

    return input_key(job, "policy", "base", 1.0)


def test_the_key_follows_the_content_not_the_objects(tiny: Tiny) -> None:
    job = tiny.rollout(tiny.policy()).job
    first = key(tiny, job)
    again = replace(
        job,
        model=job.model.clone(),
        positive=[[cond.clone(), dict(options)] for cond, options in job.positive],
        noise=job.noise.clone(),
    )
    assert first is not None
    assert key(tiny, again) == first
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"cfg": 3.1},
        {"positive": job.negative},
        {"noise": job.noise + 1e-6},
        {"noise_mask": torch.ones(1, 1, 8, 8)},
        {"sigmas": job.sigmas * 0.99},
    ]
    for change in changes:
        assert key(tiny, replace(job, **change)) not in (first, None), change


def test_other_loras_count_and_foreign_patches_are_never_kept(tiny: Tiny) -> None:
    job = tiny.rollout(tiny.policy()).job
    name = next(n for n in job.model.model.state_dict() if n.endswith("to_q.weight"))
    weight = job.model.model.state_dict()[name]
    patched = job.model.clone()
    patched.add_patches({name: ("diff", (torch.ones_like(weight),))})
    assert key(tiny, replace(job, model=patched)) not in (key(tiny, job), None)
    foreign = job.model.clone()
    foreign.set_model_attn1_patch(lambda *args: args)
    assert key(tiny, replace(job, model=foreign)) is None


def test_runs_are_kept_apart_and_bounded(tiny: Tiny) -> None:
    from pxpo_core.backends.comfy.kept_rollouts import RUNS_KEPT, KeptRollouts

    rollout = tiny.rollout(tiny.policy())
    kept = KeptRollouts()
    kept.keep("a", "key", rollout.trajectory.x_0, rollout.trajectory)
    assert kept.find("b", "key") is None
    assert kept.find("a", "other") is None
    assert kept.find("a", None) is None
    found = kept.find("a", "key")
    assert found is not None
    assert found[1] is rollout.trajectory
    found[0].zero_()
    assert kept.find("a", "key")[0].any()  # a node that writes into its input spoils nothing
    for number in range(RUNS_KEPT):
        kept.keep(str(number), "key", rollout.trajectory.x_0, rollout.trajectory)
    assert kept.find("a", "key") is None
