"""A run that starts from an existing LoRA has that LoRA's effect, and every layer it trains."""

import pytest
import torch
from torch import nn

from pxpo_core.lora import LoRAConfig, LoRALayers, Policy, new_policy
from pxpo_core.lora_start import start_from


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn = nn.Linear(6, 5)
        self.blocks = nn.Sequential(nn.Linear(5, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(self.attn(x))


def trained(net: nn.Module, **settings: object) -> Policy:
    policy = new_policy(net, LoRAConfig(**{"r": 2, "target_modules": "attention", **settings}))
    generator = torch.Generator().manual_seed(1)
    return Policy(
        policy.config,
        {n: torch.randn(t.shape, generator=generator) for n, t in policy.tensors.items()},
    )


def output(net: nn.Module, policy: Policy) -> torch.Tensor:
    x = torch.linspace(-1, 1, 18).reshape(3, 6)
    with LoRALayers(policy).attached(net), torch.no_grad():
        return net(x)


@pytest.mark.parametrize("alpha", [1.0, 2.0, 0.5])
@pytest.mark.parametrize("target", ["attention", "all layers"])
def test_the_start_has_the_files_effect(alpha, target):
    net = Net()
    loaded = trained(net, lora_alpha=1.0)
    config = LoRAConfig(2, alpha, target)
    policy = start_from(loaded, net, config)
    assert policy.config == config
    assert policy.layers == new_policy(net, config).layers
    assert torch.allclose(output(net, policy), output(net, loaded), atol=1e-6)
    assert not torch.allclose(output(net, policy), output(net, new_policy(net, config)))


def test_the_same_settings_keep_every_bit():
    net = Net()
    loaded = trained(net, lora_alpha=3.0)
    assert start_from(loaded, net, loaded.config).digest == loaded.digest


def test_layers_of_smaller_rank_have_rows_to_train():
    """A file of mixed ranks is filled up with zeros, which no gradient would ever move."""
    net = Net()
    loaded = trained(net)
    tensors = {name: tensor.clone() for name, tensor in loaded.tensors.items()}
    tensors["attn.lora_down.weight"][1] = 0.0
    tensors["attn.lora_up.weight"][:, 1] = 0.0
    padded = Policy(loaded.config, tensors)
    policy = start_from(padded, net, loaded.config)
    assert torch.equal(output(net, policy), output(net, padded))
    layers = LoRALayers(policy)
    with layers.attached(net):
        net(torch.ones(2, 6)).square().sum().backward()
    assert bool(layers.parameters["attn.lora_up.weight"].grad[:, 1].any())


def test_another_rank_says_which_to_set():
    net = Net()
    with pytest.raises(ValueError, match=r"has rank 2, and r is 8\. Set r to 2"):
        start_from(trained(net), net, LoRAConfig(8, 8.0, "attention"))


def test_layers_that_would_not_be_trained_say_what_to_choose():
    net = Net()
    loaded = trained(net, target_modules="all layers")
    with pytest.raises(ValueError, match=r"such as blocks\.0\. Set target_modules to 'attention a"):
        start_from(loaded, net, LoRAConfig(2, 2.0, "attention"))
