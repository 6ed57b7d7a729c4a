"""Whatever a graph brings: what was sampled is replayed, and the gradient is that of the samples.

docs/graph.md has the table.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from graph_cases import BATCH, CASES, Case, half_mask, lora, node, random
from replayed import Replayed, learned, rollout_of

from pxpo_core.lora import LoRALayers

if TYPE_CHECKING:
    from .conftest import Tiny


@pytest.mark.parametrize("name", CASES)
def test_what_a_graph_brings(tiny: Tiny, name: str) -> None:
    from pxpo_core.backends.comfy.measuring import try_one_picture

    graph = CASES[name](Case(tiny.model, tiny.positive, tiny.negative))
    rollout = rollout_of(graph, learned(tiny.policy()))
    plain = rollout_of(Case(tiny.model, tiny.positive, tiny.negative), rollout.policy)
    before = tiny.fingers()
    if name != "plain":
        assert not torch.equal(rollout.trajectory.x_0, plain.trajectory.x_0), "it has an effect"
    replayed = Replayed(rollout)
    replayed.ratio_is_one()
    # Where attention crosses a threshold, this node's guidance jumps: the slope is a local one.
    replayed.gradient_is_right(0.001 if name == "SelfAttentionGuidance" else 0.01)
    with torch.inference_mode(False), torch.enable_grad():
        assert try_one_picture(rollout, LoRALayers(rollout.policy)).drift < 1e-4
    again = rollout_of(Case(tiny.model, tiny.positive, tiny.negative), rollout.policy)
    assert torch.equal(again.trajectory.x_0, plain.trajectory.x_0), "the model is as it was"
    assert tiny.fingers() == before


UNREPEATABLE = {
    "EasyCache": ("nodes_easycache", "EasyCacheNode", (0.2, 0.1, 0.9, False)),
    "LazyCache": ("nodes_easycache", "LazyCacheNode", (0.2, 0.1, 0.9, False)),
    "HyperTile": ("nodes_hypertile", "HyperTile", (256, 2, 0, False)),
    "Token Merging": ("nodes_tomesd", "TomePatchModel", (0.3,)),
    "torch.compile": ("nodes_torch_compile", "TorchCompileModel", ("inductor",)),
}


@pytest.mark.parametrize("name", UNREPEATABLE)
def test_what_cannot_be_replayed_is_refused_by_name(tiny: Tiny, name: str) -> None:
    from pxpo_core.backends.comfy.patches import PatchError, refuse_unrepeatable

    module, class_name, settings = UNREPEATABLE[name]
    refuse_unrepeatable(tiny.model)
    patched = node(module, class_name, tiny.model, *settings)
    with pytest.raises(PatchError, match=f"cannot learn through .*{name}.*Bypass"):
        refuse_unrepeatable(patched)


def test_a_model_that_remembers_is_refused_before_training(tiny: Tiny) -> None:
    """Momentum in APG: what it adds depends on the calls before. Its name is in the sentence."""
    from pxpo_core.backends.comfy.measuring import NotRepeatableError
    from pxpo_core.update import UpdateConfig

    model = node("nodes_apg", "APG", tiny.model, 1.0, 5.0, -0.5)
    rollout = rollout_of(Case(model, tiny.positive, tiny.negative), learned(tiny.policy()))
    with pytest.raises(NotRepeatableError, match=r"% off.*APG\.execute\.pre_cfg_function"):
        tiny.train(rollout, UpdateConfig())


def test_a_model_that_keeps_its_graph_is_refused(tiny: Tiny) -> None:
    """What it remembers may be too small to be seen in one prediction."""
    from pxpo_core.backends.comfy.measuring import NotRepeatableError
    from pxpo_core.update import UpdateConfig

    before: list[Any] = [0.0]

    def remember(args: Any) -> Any:
        before[0] = args["denoised"] + 1e-6 * before[0]
        return before[0]

    model = tiny.model.clone()
    model.set_model_sampler_post_cfg_function(remember)
    rollout = rollout_of(Case(model, tiny.positive, tiny.negative), learned(tiny.policy()))
    with pytest.raises(NotRepeatableError, match=r"keeps something of the step before.*remember"):
        tiny.train(rollout, UpdateConfig())


def test_masked_pixels_take_no_part(tiny: Tiny) -> None:
    """Whatever is said about pixels an inpainting mask protects, the gradient has the same bits."""
    graph = replace(
        Case(tiny.model, tiny.positive, tiny.negative),
        noise_mask=half_mask(1, 64, 64),
        latent=random(BATCH, 4, 8, 8),
    )
    rollout = rollout_of(graph, learned(tiny.policy()))
    assert not rollout.trajectory.noises[..., 4:].any()
    assert rollout.trajectory.noises[:3, ..., :4].all()
    replayed = Replayed(rollout)
    first = replayed.gradient()
    replayed.worth[..., 4:] = 1000.0
    second = replayed.gradient()
    assert all(torch.equal(first[name], second[name]) for name in first)
    replayed.worth[..., :4] = 0.0
    assert not any(g.any() for g in replayed.gradient().values())


@pytest.mark.parametrize("order", ["before", "after"])
def test_other_loras_before_and_after_the_training_run(tiny: Tiny, order: str) -> None:
    """The base that is sampled and trained has the other LoRA either way, and only that."""
    import comfy.sd

    from pxpo_core.backends.comfy.policy_model import RunIdentity, attach_policy, detach_policy

    policy, other = learned(tiny.policy()), lora(tiny.model)

    def load(model: Any) -> Any:
        return comfy.sd.load_lora_for_models(model, None, other, 1.0, 0.0)[0]

    def run(model: Any) -> Any:
        return attach_policy(model, policy, RunIdentity("graph", None, 1), "base")

    model = run(load(tiny.model)) if order == "before" else load(run(tiny.model))
    base = detach_policy(model)
    rollout = rollout_of(Case(base, tiny.positive, tiny.negative), policy)
    expected = rollout_of(Case(load(tiny.model), tiny.positive, tiny.negative), policy)
    assert torch.equal(rollout.trajectory.x_0, expected.trajectory.x_0)
    Replayed(rollout).ratio_is_one()
