"""How many pictures are trained at once, and what it is said to cost."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pxpo_core.credit import advantage_map
from pxpo_core.lora import LoRALayers
from pxpo_core.update import UpdateConfig

GB = 1024**3

pytestmark = pytest.mark.usefixtures("comfyui")


def plan(available: float, most: int = 8, **changes: Any) -> Any:
    """For a model that keeps 1 GB per picture, 0.2 when its blocks are repeated."""
    from pxpo_core.backends.comfy.memory_plan import plan_training
    from pxpo_core.backends.comfy.saved_memory import Measured, SavedMemory

    plain = {"picture": 9 * GB // 10, "weights": 0, "largest_block": GB // 10, **changes}
    repeated = {**plain, "picture": GB // 10}
    measured = Measured(SavedMemory(**plain), SavedMemory(**repeated))
    return plan_training(measured, most, int(available * GB))


@pytest.mark.parametrize(
    ("available", "pictures", "checkpointing"),
    [(20.0, 8, False), (4.6, 4, False), (1.2, 1, False), (1.0, 4, True), (0.5, 2, True),
     (0.1, 1, True), (0.0, 1, True)],
)  # fmt: skip
def test_as_many_as_fit_and_repeating_only_where_it_must(
    available: float, pictures: int, checkpointing: bool
) -> None:
    made = plan(available)
    assert (made.micro_batch, made.checkpointing) == (pictures, checkpointing)
    assert made.backward.reserve == made.needed


def test_weights_that_are_copied_for_every_call_count_once() -> None:
    assert plan(30.0, weights=10 * GB).needed == pytest.approx(18 * GB, rel=1e-6)
    assert plan(13.0, weights=10 * GB).micro_batch == 1


def test_the_sentence_says_pictures_and_gigabytes() -> None:
    assert plan(20.0, most=4).text == "Training 4 pictures at a time; needs about 4.0 of 20.0 GB"
    slow = plan(0.25).text
    assert slow.startswith("Training 1 picture at a time; needs about 0.2 of 0.2 GB")
    assert "slower to save memory" in slow


def test_what_is_counted_is_what_a_gradient_keeps(tiny: Any) -> None:
    """Counted without keeping anything, against all that is really kept."""
    from pxpo_core.backends.comfy.backward import Backward
    from pxpo_core.backends.comfy.measuring import try_one_picture
    from pxpo_core.backends.comfy.session import ReplaySession

    rollout = tiny.rollout(tiny.policy())
    with torch.inference_mode(False), torch.enable_grad():
        layers = LoRALayers(rollout.policy)
        measured = try_one_picture(rollout, layers).measured
        trajectory = rollout.trajectory
        kept: dict[int, int] = {}

        def work(denoise: Any) -> None:
            network = denoise.guider.inner_model.diffusion_model
            free = {
                t.untyped_storage().data_ptr()
                for t in (*network.parameters(), *network.buffers(), *layers.parameters.values())
            }
            alive = []

            def save(tensor: torch.Tensor) -> torch.Tensor:
                alive.append(tensor)
                storage = tensor.untyped_storage()
                if storage.data_ptr() not in free:
                    kept[storage.data_ptr()] = storage.nbytes()
                return tensor

            with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
                denoise(trajectory.states[2, 2:].clone(), trajectory.steps[2].sigma_t, (2,))

        ReplaySession(rollout.job, layers, Backward(copies=True))(work)
    plain, repeated = measured.plain, measured.checkpointed
    assert plain.picture + plain.weights == sum(kept.values())
    assert not plain.overwritten
    assert repeated.picture < 0.7 * plain.picture


@pytest.mark.parametrize(("available", "expected"), [(None, 4), (2.4, 2), (0.0, 1)])
def test_an_update_keeps_to_the_memory_there_is(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, available: float | None, expected: int
) -> None:
    """available: in pictures. The result does not depend on it."""
    from pxpo_core.backends.comfy import measuring
    from pxpo_core.backends.comfy.memory_plan import USABLE_ON_CPU
    from pxpo_core.backends.comfy.train import train_round

    rollout = tiny.rollout(tiny.policy(), batch=4)
    whole = tiny.train(rollout, UpdateConfig(train_steps=2, micro_batch=expected))
    if available is not None:
        with torch.inference_mode(False), torch.enable_grad():
            saved = measuring.try_one_picture(rollout, LoRALayers(rollout.policy)).measured.plain
        free = int(saved.needed(1) * available / USABLE_ON_CPU)
        monkeypatch.setattr(measuring, "_available", lambda guider: free)
    events: list[str] = []
    reward = torch.randn(4, 64, 64, generator=torch.Generator().manual_seed(3))
    result = train_round(
        [rollout], [advantage_map(reward, (8, 8))], rollout.policy, {},
        UpdateConfig(train_steps=2, micro_batch=8), 1,
        progress=lambda done, total: events.append("step"),
        planned=lambda made: events.append(made.text),
    )  # fmt: skip
    assert events[0].startswith(f"Training {expected} picture")
    assert ("slower" in events[0]) == (expected == 1)
    assert result.micro_batch == expected
    assert result.policy.digest == whole.policy.digest
