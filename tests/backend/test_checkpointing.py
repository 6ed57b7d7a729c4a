"""Gradient checkpointing: the same bits, nothing left behind, and work in place is noticed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pxpo_core.lora import LoRALayers


def gradients(rollout: Any, backward: Any, steps: Any = (1, 3)) -> dict[str, torch.Tensor]:
    """The LoRA's gradients over two steps in two micro-batches."""
    from pxpo_core.backends.comfy.session import ReplaySession

    with torch.inference_mode(False), torch.enable_grad():
        layers = LoRALayers(rollout.policy)
        trajectory = rollout.trajectory
        batch = trajectory.batch

        def work(denoise: Any) -> None:
            for t in steps:
                for rows in (range(1), range(1, batch)):
                    x, z = (
                        v[t, list(rows)].clone() for v in (trajectory.states, trajectory.noises)
                    )
                    (denoise(x, trajectory.steps[t].sigma_t, rows) * z).mean().backward()

        ReplaySession(rollout.job, layers, backward)(work)
        return {name: p.grad for name, p in layers.parameters.items() if p.grad is not None}


def trained_policy(tiny: Any) -> Any:
    """A LoRA that has learned something: with a new one, half of the gradients are zero."""
    policy = tiny.policy()
    generator = torch.Generator().manual_seed(1)
    for tensor in policy.tensors.values():
        tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
    return policy


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("copies", [False, True], ids=["", "copies"])
def test_the_gradient_has_the_same_bits(tiny: Any, copies: bool) -> None:
    from pxpo_core.backends.comfy.backward import Backward

    rollout = tiny.rollout(trained_policy(tiny))
    before = tiny.fingers()
    plain = gradients(rollout, Backward(copies=copies))
    assert plain
    assert equal(gradients(rollout, Backward(copies=copies, checkpointing=True)), plain)
    assert tiny.fingers() == before
    assert not any("forward" in m.__dict__ for m in tiny.model.model.modules())


def test_options_that_change_from_block_to_block_are_repeated_as_they_were(tiny: Any) -> None:
    """A patch for one block asks transformer_options which block it is in."""
    from pxpo_core.backends.comfy.backward import Backward

    def patch(q: Any, k: Any, v: Any, options: Any) -> Any:
        return (q * (1.0 + 0.1 * options["block"][1]), k, v)

    model = tiny.model.clone()
    model.set_model_attn1_patch(patch)
    rollout = tiny.rollout(trained_policy(tiny), model=model)
    plain = gradients(rollout, Backward())
    assert equal(gradients(rollout, Backward(checkpointing=True)), plain)
    assert not equal(gradients(tiny.rollout(rollout.policy), Backward()), plain)


class Block(nn.Module):
    """Adds to its input in place, as Flux does, after the gradient has asked for it."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x += torch.tanh(self.layer(x.square()))
        return x


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x


def test_work_in_place_is_refused_or_right_but_never_wrong(comfyui: Any) -> None:
    from pxpo_core.backends.comfy.checkpointing import OverwrittenError, checkpointed

    torch.manual_seed(0)
    network, x = Network().double(), torch.randn(5, 4, dtype=torch.float64)
    parameters = list(network.parameters())
    leaves = tuple(p.detach().clone().requires_grad_() for p in parameters)
    assert torch.autograd.gradcheck(lambda *p: _with_copies(network, x, p), leaves)
    with pytest.raises(OverwrittenError), checkpointed(network, lambda t: t):
        network(x).sum().backward()
    network.zero_grad()
    with checkpointed(network, lambda t: t.detach().clone()):
        network(x).sum().backward()
    repeated = [p.grad.clone() for p in parameters]
    network.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        network(x).sum().backward()
    assert all(torch.equal(a, p.grad) for a, p in zip(repeated, parameters, strict=True))


def _with_copies(network: nn.Module, x: torch.Tensor, values: Any) -> torch.Tensor:
    named = dict(zip([n for n, _ in network.named_parameters()], values, strict=True))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().clone(), lambda t: t):
        return torch.func.functional_call(network, named, (x,))


def test_a_forward_put_there_by_another_node_is_put_back(comfyui: Any) -> None:
    from pxpo_core.backends.comfy.checkpointing import checkpointed

    network = Network()
    first, second = network.blocks[0], network.blocks[1]
    patched = lambda x: 2.0 * x  # noqa: E731
    first.forward = patched

    def fail() -> None:
        with checkpointed(network, lambda t: t):
            assert "forward" in second.__dict__
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert first.__dict__["forward"] is patched
    assert "forward" not in second.__dict__


def test_a_part_that_does_not_repeat_itself_is_refused(comfyui: Any) -> None:
    from pxpo_core.backends.comfy.checkpointing import checkpointed

    network, calls = Network(), []

    def odd(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.tanh(network.first(x)) if len(calls) == 1 else x * 2.0

    network.blocks[0].forward = odd
    with checkpointed(network, lambda t: t.detach().clone()):
        y = network(torch.randn(2, 4))
        with pytest.raises(RuntimeError, match="did not repeat itself"):
            y.sum().backward()
