"""Whatever happens in our nodes, the host's model stays what it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pxpo_core.update import NonFiniteUpdateError, UpdateConfig

CONFIG = UpdateConfig(
    learning_rate=1e-2, train_steps=2, micro_batch=2, anchor=0.1, anchor_region="everywhere"
)


def test_base_model_is_bit_identical_after_rounds(tiny: Any) -> None:
    before, pictures = tiny.fingers(), tiny.pictures()
    policy = tiny.policy()
    for _ in range(2):
        policy = tiny.train(tiny.rollout(policy), CONFIG).policy
    assert tiny.fingers() == before
    assert torch.equal(tiny.pictures(), pictures)


def test_base_model_is_bit_identical_after_a_failed_update(tiny: Any) -> None:
    before, pictures = tiny.fingers(), tiny.pictures()

    def fail(done: int, total: int) -> None:
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        tiny.train(tiny.rollout(tiny.policy()), CONFIG, fail)
    assert tiny.fingers() == before
    assert torch.equal(tiny.pictures(), pictures)


@pytest.mark.parametrize("during", ["sampling", "training"])
def test_base_model_is_bit_identical_after_an_interrupt(tiny: Any, during: str) -> None:
    import comfy.model_management as management

    before, pictures = tiny.fingers(), tiny.pictures()
    policy = tiny.policy()
    if during == "sampling":
        management.interrupt_current_processing()
        with pytest.raises(management.InterruptProcessingException):
            tiny.rollout(policy)
    else:
        rollout = tiny.rollout(policy)

        def interrupt(done: int, total: int) -> None:
            management.interrupt_current_processing()

        with pytest.raises(management.InterruptProcessingException):
            tiny.train(rollout, CONFIG, interrupt)
    assert tiny.fingers() == before
    assert torch.equal(tiny.pictures(), pictures)


def test_a_gradient_that_is_not_finite_changes_nothing(tiny: Any) -> None:
    policy = tiny.policy()
    rollout = tiny.rollout(policy)
    rollout.trajectory.noises[:, 0, 0, 0, 0] = float("nan")
    digest = policy.digest
    with pytest.raises(NonFiniteUpdateError, match="nothing was changed"):
        tiny.train(rollout, CONFIG)
    assert policy.digest == digest


def test_policy_model_moves_pictures_and_detaches_without_trace(tiny: Any) -> None:
    from pxpo_core.backends.comfy.policy_model import RunIdentity, attach_policy, detach_policy

    pictures = tiny.pictures()
    policy = tiny.train(tiny.rollout(tiny.policy()), CONFIG).policy
    model = attach_policy(tiny.model, policy, RunIdentity("tiny", None, 1), "base")
    moved = tiny.pictures(model)
    assert float((moved - pictures).abs().max()) > 1e-3
    assert torch.equal(tiny.pictures(), pictures)
    assert torch.equal(tiny.pictures(detach_policy(model)), pictures)
    assert detach_policy(model).patches == {}


def test_weight_patches_sample_like_the_hooks(tiny: Any) -> None:
    """KSampler with the policy MODEL and our sampler agree: same LoRA, two mechanisms."""
    from pxpo_core.backends.comfy.policy_model import RunIdentity, attach_policy
    from pxpo_core.backends.comfy.rollout import Rollout
    from pxpo_core.backends.comfy.session import sample

    policy = tiny.train(tiny.rollout(tiny.policy()), CONFIG).policy
    hooked: Rollout = tiny.rollout(policy)
    model = attach_policy(tiny.model, policy, RunIdentity("tiny", None, 1), "base")
    job = hooked.job
    patched_job = type(job)(
        **{f: getattr(job, f) for f in job.__dataclass_fields__ if f != "model"}, model=model
    )
    _, patched = sample(patched_job, None, 1.0, hooked.trajectory.noises)
    base = tiny.rollout(None).trajectory
    moved = (hooked.trajectory.x_0 - base.x_0).abs().max()
    assert float((patched.x_0 - hooked.trajectory.x_0).abs().max()) < 1e-3 * float(moved)


def test_other_loras_apply_in_full_beside_a_loaded_policy(tiny: Any) -> None:
    """A LoraLoader in another branch finds every layer while our policy is in use."""
    import comfy.sd

    other = tiny.train(tiny.rollout(tiny.policy("attention")), CONFIG).policy
    policy = tiny.train(tiny.rollout(tiny.policy()), CONFIG).policy
    tiny.rollout(policy)
    branch, _ = comfy.sd.load_lora_for_models(tiny.model, None, other.state_dict(), 1.0, 0.0)
    assert len(branch.patches) == len(other.layers) > 0
    assert len(tiny.model.patches) == 0


def test_training_on_top_of_a_users_lora_keeps_it(tiny: Any) -> None:
    import comfy.sd

    from pxpo_core.backends.comfy.policy_model import RunIdentity, attach_policy, detach_policy

    style = tiny.train(tiny.rollout(tiny.policy("attention")), CONFIG).policy
    styled, _ = comfy.sd.load_lora_for_models(tiny.model, None, style.state_dict(), 1.0, 0.0)
    pictures = tiny.pictures(styled)
    policy = tiny.train(tiny.rollout(tiny.policy(), model=styled), CONFIG).policy
    model = attach_policy(styled, policy, RunIdentity("tiny", None, 1), "base")
    assert not torch.equal(tiny.pictures(model), pictures)
    assert torch.equal(tiny.pictures(detach_policy(model)), pictures)
