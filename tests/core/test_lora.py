"""LoRA: plain data outside, hooks inside, and nothing left behind."""

from collections import OrderedDict
from dataclasses import replace

import pytest
import torch
from torch import nn

from pxpo_core.lora import (
    ALL_LAYERS,
    ATTENTION,
    TARGETS,
    LoRAConfig,
    LoRALayers,
    Policy,
    check_fits,
    new_policy,
    target_layers,
)


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, 8, 3, padding=1, stride=2)
        self.blocks = nn.Sequential(OrderedDict(
            attn1=nn.Linear(8, 8), ff=nn.Linear(8, 6, bias=False),
        ))  # fmt: skip
        self.head = nn.Linear(6, 4)
        for parameter in self.parameters():
            parameter.requires_grad_(False).normal_(generator=generator)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.blocks(self.conv(x).permute(0, 2, 3, 1)))


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn((2, 3, 6, 6), generator=torch.Generator().manual_seed(5))


def trained(network: Network, target: str = ALL_LAYERS) -> Policy:
    policy = new_policy(network, LoRAConfig(r=2, lora_alpha=3.0, target_modules=target))
    generator = torch.Generator().manual_seed(9)
    tensors = {n: torch.randn(t.shape, generator=generator) for n, t in policy.tensors.items()}
    return replace(policy, tensors=tensors)


def test_targets_are_chosen_by_name(network):
    assert set(target_layers(network, ATTENTION)) == {"blocks.attn1"}
    assert set(target_layers(network, TARGETS[1])) == {"blocks.attn1", "blocks.ff"}
    everything = {"conv", "blocks.attn1", "blocks.ff", "head"}
    assert set(target_layers(network, ALL_LAYERS)) == everything


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("input_blocks.1.1.transformer_blocks.0.ff.net.2", True),  # SD1.5
        ("joint_blocks.3.x_block.mlp.fc1", True),  # SD3
        ("double_blocks.3.img_mlp.0", True),  # Flux
        ("layers.2.feed_forward.w1", True),  # Lumina 2
        ("blocks.0.mlp.layer1", True),  # Cosmos
        ("input_blocks.1.0.emb_layers.1", False),
        ("output_blocks.4.1.proj_in", False),
        ("time_embed.0", False),
    ],
)
def test_feed_forward_layers_of_real_models(name, chosen):
    class Named:
        def named_modules(self):
            yield "to_q.attn1", nn.Linear(2, 2)  # a network without any target is refused
            yield name, nn.Linear(2, 2)

    assert (name in target_layers(Named(), TARGETS[1])) is chosen
    with pytest.raises(ValueError, match="no layers"):
        target_layers(nn.Sequential(nn.Linear(2, 2)), ATTENTION)


def test_a_new_policy_changes_nothing(network, x):
    base = network(x)
    with LoRALayers(new_policy(network, LoRAConfig(target_modules=ALL_LAYERS))).attached(network):
        assert torch.equal(network(x), base)


def test_hooks_equal_patched_weights(network, x):
    """down, up and alpha mean what every LoRA loader takes them for: W + alpha / r * up @ down."""
    policy = trained(network)
    with LoRALayers(policy).attached(network):
        hooked = network(x)
    patched = Network()
    state = policy.state_dict(prefix="")
    for name in policy.layers:
        down, up = state[f"{name}.lora_down.weight"], state[f"{name}.lora_up.weight"]
        alpha = state[f"{name}.alpha"]
        assert alpha.ndim == 0
        weight = patched.get_submodule(name).weight
        weight += alpha / down.shape[0] * (up.flatten(1) @ down.flatten(1)).reshape(weight.shape)
    torch.testing.assert_close(hooked, patched(x), rtol=1e-4, atol=1e-4)


def test_nothing_is_left_behind_even_after_an_error(network, x):
    base, names = network(x), list(network.state_dict())
    layers = LoRALayers(trained(network))
    with layers.attached(network):
        assert not torch.equal(network(x), base)
    with pytest.raises(RuntimeError), layers.attached(network):
        network(x[:, :2])  # wrong channels: fails inside the model
    assert torch.equal(network(x), base)
    assert list(network.state_dict()) == names
    assert not any(module._forward_hooks for module in network.modules())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


def test_a_layer_that_is_missing_leaves_no_hooks_either(network):
    layers = LoRALayers(trained(network))
    del network.head
    with pytest.raises(KeyError), layers.attached(network):
        pass
    assert not any(module._forward_hooks for module in network.modules())


def test_gradients_reach_the_lora_only(network, x):
    layers = LoRALayers(trained(network))
    with layers.attached(network):
        network(x).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in layers.parameters.values())
    assert all(p.grad is None for p in network.parameters())


def test_training_does_not_change_the_policy_it_started_from(network):
    policy = trained(network)
    digest, before = policy.digest, {n: t.clone() for n, t in policy.tensors.items()}
    layers = LoRALayers(policy)
    with torch.no_grad():
        for parameter in layers.parameters.values():
            parameter += 1.0
    assert all(torch.equal(policy.tensors[n], t) for n, t in before.items())
    assert replace(policy).digest == digest
    assert layers.policy().digest != digest


def test_layers_give_back_what_they_were_made_of(network):
    policy = trained(network)
    again = LoRALayers(policy).policy()
    assert again.digest == policy.digest
    assert all(t.is_contiguous() and not t.requires_grad for t in again.tensors.values())


def test_a_layers_start_does_not_depend_on_the_others_or_on_luck(network):
    torch.manual_seed(1)
    few = new_policy(network, LoRAConfig(target_modules=ATTENTION))
    torch.manual_seed(2)
    many = new_policy(network, LoRAConfig(target_modules=ALL_LAYERS))
    name = "blocks.attn1.lora_down.weight"
    assert torch.equal(few.tensors[name], many.tensors[name])
    other = new_policy(network, LoRAConfig(target_modules=ATTENTION, init_seed=1))
    assert not torch.equal(few.tensors[name], other.tensors[name])


def test_the_digest_sees_every_bit_name_and_setting(network):
    policy = trained(network)
    digests = {policy.digest}
    name = "head.lora_up.weight"
    changed = policy.tensors[name].clone()
    changed[0, 0] = torch.nextafter(changed[0, 0], torch.tensor(9.0))
    digests.add(replace(policy, tensors={**policy.tensors, name: changed}).digest)
    reshaped = policy.tensors[name].reshape(2, 4)
    digests.add(replace(policy, tensors={**policy.tensors, name: reshaped}).digest)
    renamed = {n.replace("head", "tail"): t for n, t in policy.tensors.items()}
    digests.add(replace(policy, tensors=renamed).digest)
    digests.add(replace(policy, config=replace(policy.config, lora_alpha=4.0)).digest)
    assert len(digests) == 5
    shuffled = dict(reversed(policy.tensors.items()))
    assert replace(policy, tensors=shuffled).digest == policy.digest


def test_another_architecture_is_refused_by_layer_name(network):
    policy = trained(network)
    check_fits(policy, network)
    network.head = nn.Linear(6, 5)
    with pytest.raises(ValueError, match=r"another architecture: layer head is \(5, 6\) here"):
        check_fits(policy, network)
    del network.head
    with pytest.raises(ValueError, match="head is missing"):
        check_fits(policy, network)


@pytest.mark.parametrize(
    ("fields", "word"),
    [({"r": 0}, "rank"), ({"r": 100_000}, "rank"), ({"lora_alpha": 0.0}, "lora_alpha"),
     ({"lora_alpha": float("nan")}, "lora_alpha"), ({"target_modules": "unet"}, "'unet'")],
)  # fmt: skip
def test_settings_out_of_range_are_named(fields, word):
    with pytest.raises(ValueError, match=word):
        LoRAConfig(**fields)


def test_settings_survive_json_and_refuse_other_fields():
    config = LoRAConfig(r=3, lora_alpha=1.5, target_modules=ALL_LAYERS, init_seed=4)
    assert LoRAConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="fields"):
        LoRAConfig.from_dict({**config.to_dict(), "dropout": 0.1})
    with pytest.raises(ValueError, match="fields"):
        LoRAConfig.from_dict({"r": 3})
