"""An update stopped on the way: all or nothing, or the optimizer steps that were finished."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from pxpo_core.credit import advantage_map
from pxpo_core.lora import LoRAConfig, LoRALayers, Policy, new_policy
from pxpo_core.rollout import draw_noise, sample_trajectory
from pxpo_core.update import Experience, UpdateConfig, UpdateResult, update_policy

SIGMAS = (8.0, 3.0, 1.0, 0.3, 0.0)
STEPS = 3  # optimizer steps
CALLS = 3  # model calls of each: the trained sampling steps


class Stop(Exception):
    """Stands for the host's interrupt."""


class Denoiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.Linear(2, 2, bias=False)
        self.requires_grad_(False)
        with torch.no_grad():
            self.attn.weight.copy_(torch.tensor([[0.9, 0.2], [-0.3, 0.7]]))

    def forward(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        return torch.tanh(self.attn(x.movedim(1, -1) / (1 + sigma))).movedim(-1, 1)


class Session:
    """Lends the model; raises Stop at the n-th call."""

    def __init__(self, layers: LoRALayers, stop_at: int) -> None:
        self.model, self.layers, self.left = Denoiser(), layers, stop_at

    def __call__(self, work):
        with self.layers.attached(self.model):
            return work(self.denoise)

    def denoise(self, x: torch.Tensor, sigma: float, samples: Sequence[int]) -> torch.Tensor:
        self.left -= 1
        if self.left == 0:
            raise Stop
        return self.model(x, sigma)


def start() -> Policy:
    policy = new_policy(Denoiser(), LoRAConfig(2, 2.0, "attention"))
    generator = torch.Generator().manual_seed(3)
    return Policy(
        policy.config,
        {n: torch.randn(t.shape, generator=generator) for n, t in policy.tensors.items()},
    )


def update(steps: int = STEPS, stop_at: int = 0, ends: tuple = (Stop,)) -> UpdateResult:
    layers = LoRALayers(start())
    noise = draw_noise((2, 3, 4), 5, 0, 0, range(4))
    session = Session(layers, 0)
    with torch.no_grad():
        trajectory = session(
            lambda denoise: sample_trajectory(
                denoise, SIGMAS[0] * noise[0], noise[1:], SIGMAS, "vp", 1.0
            )
        )
    reward = torch.randn((4, 24, 32), generator=torch.Generator().manual_seed(1))
    experience = Experience(trajectory, advantage_map(reward, (3, 4)), Session(layers, stop_at))
    config = UpdateConfig(train_steps=99, steps_per_rollout=steps)
    return update_policy([experience], layers, {}, config, seed=0, ends=ends)


@pytest.mark.parametrize("stop_at", range(CALLS + 1, STEPS * CALLS + 1))
def test_the_finished_steps_are_the_result(stop_at):
    """Bit for bit what an update of that many steps gives, Adam's state included."""
    stopped = update(stop_at=stop_at)
    taken = (stop_at - 1) // CALLS
    whole = update(steps=taken)
    assert stopped.optimizer_steps == taken
    assert isinstance(stopped.stopped, Stop)
    assert stopped.policy.digest == whole.policy.digest
    assert all(torch.equal(stopped.optimizer[k], whole.optimizer[k]) for k in whole.optimizer)


@pytest.mark.parametrize("stop_at", range(1, CALLS + 1))
def test_before_the_first_step_nothing_is_kept(stop_at):
    with pytest.raises(Stop):
        update(stop_at=stop_at)


@pytest.mark.parametrize("stop_at", [1, CALLS + 1, STEPS * CALLS])
def test_unless_it_was_asked_for_nothing_is_kept(stop_at):
    with pytest.raises(Stop):
        update(stop_at=stop_at, ends=())


def test_an_update_that_was_not_stopped():
    result = update()
    assert (result.optimizer_steps, result.stopped) == (STEPS, None)


def test_other_errors_are_never_swallowed():
    with pytest.raises(Stop):
        update(stop_at=CALLS + 2, ends=(KeyError,))
