"""LoRA: its configuration, its weights as plain data, and its layers while they are trained.

While sampling and training, the layers are forward hooks that add scale * up(down(x)) to a
frozen layer's output (Hu et al. 2021, eq. 3); the module tree and its state dict never change.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

ATTENTION = "attention"
ATTENTION_AND_FEED_FORWARD = "attention and feed-forward"
ALL_LAYERS = "all layers"
TARGETS = (ATTENTION, ATTENTION_AND_FEED_FORWARD, ALL_LAYERS)

MAX_RANK = 1024

STATE_PREFIX = "diffusion_model."
"""Before every layer name in a file ComfyUI loads."""

_ATTENTION_NAME = re.compile(r"(^|[._])(attn|attention)\d*([._]|$)")
# Not the timestep embedding of a UNet's input_blocks, output_blocks and emb_layers.
_BLOCK_NAME = re.compile(
    r"(^|[._])(transformer_blocks|(?<!input_)(?<!output_)blocks|(?<!emb_)layers)([._]|$)"
)


@dataclass(frozen=True, slots=True)
class LoRAConfig:
    """The fields of a run's LoRA, named as in PEFT.

    Raises ValueError naming the field and the value when one is out of range.
    """

    r: int = 8
    lora_alpha: float = 8.0
    target_modules: str = ALL_LAYERS
    init_seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.r <= MAX_RANK:
            raise ValueError(f"r (rank) must lie between 1 and {MAX_RANK}, got {self.r}.")
        if not (math.isfinite(self.lora_alpha) and self.lora_alpha > 0.0):
            raise ValueError(f"lora_alpha must be a positive number, got {self.lora_alpha}.")
        if self.target_modules not in TARGETS:
            raise ValueError(
                f"target_modules must be one of {', '.join(TARGETS)}, got {self.target_modules!r}."
            )

    @property
    def scaling(self) -> float:
        return self.lora_alpha / self.r

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LoRAConfig":
        """Raises ValueError on an unknown or missing field."""
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise ValueError(
                f"LoRA settings need the fields {sorted(names)}, got {sorted(values)}."
            )
        return cls(
            r=int(values["r"]),
            lora_alpha=float(values["lora_alpha"]),
            target_modules=str(values["target_modules"]),
            init_seed=int(values["init_seed"]),
        )


@dataclass(frozen=True)
class Policy:
    """A LoRA as data: what a round stores, a MODEL carries and a file holds.

    tensors: float32, contiguous, on the CPU, two per adapted layer:
    "<layer>.lora_down.weight" [r, in, ...] and "<layer>.lora_up.weight" [out, r, ...].
    """

    config: LoRAConfig
    tensors: Mapping[str, Tensor]

    @cached_property
    def digest(self) -> str:
        """sha256 over configuration, names, shapes and bits."""
        hasher = hashlib.sha256(json.dumps(self.config.to_dict(), sort_keys=True).encode())
        for name in sorted(self.tensors):
            tensor = self.tensors[name]
            hasher.update(f"{name}{tuple(tensor.shape)}".encode())
            hasher.update(tensor.numpy().tobytes())
        return hasher.hexdigest()

    @property
    def is_new(self) -> bool:
        """Whether it changes nothing yet: every up matrix is zero."""
        return not any(bool(t.any()) for n, t in self.tensors.items() if ".lora_up." in n)

    @property
    def layers(self) -> tuple[str, ...]:
        suffix = ".lora_down.weight"
        return tuple(sorted(n.removesuffix(suffix) for n in self.tensors if n.endswith(suffix)))

    def state_dict(self, prefix: str = STATE_PREFIX) -> dict[str, Tensor]:
        """The file form ComfyUI loads for any architecture: down, up and a 0-d alpha per layer."""
        state = {f"{prefix}{name}": tensor.clone() for name, tensor in self.tensors.items()}
        alpha = torch.tensor(self.config.lora_alpha)
        state.update({f"{prefix}{layer}.alpha": alpha.clone() for layer in self.layers})
        return state


class Network(Protocol):
    """Where a LoRA's layers are looked up: a module, or a view of one under other names."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...


def target_layers(root: Network, target_modules: str) -> dict[str, nn.Module]:
    """Name -> layer for every Linear (and, for "all layers", Conv2d) the choice adapts.

    Raises ValueError when the model has none.
    """
    found: dict[str, nn.Module] = {}
    for name, layer in root.named_modules():
        if is_linear(layer):
            chosen = (
                target_modules == ALL_LAYERS
                or _ATTENTION_NAME.search(name) is not None
                or (
                    target_modules == ATTENTION_AND_FEED_FORWARD
                    and _BLOCK_NAME.search(name) is not None
                )
            )
        else:
            chosen = (
                target_modules == ALL_LAYERS
                and isinstance(layer, nn.Conv2d)
                and layer.groups == 1
                and layer.padding_mode == "zeros"
            )
        if chosen:
            found[name] = layer
    if not found:
        raise ValueError(f"This model has no layers for target_modules = {target_modules!r}.")
    return found


def is_linear(layer: nn.Module) -> bool:
    """Whether a layer is a matrix: torch's own, or a host's quantised one of another class."""
    if isinstance(layer, nn.Linear):
        return True
    sizes = (getattr(layer, "in_features", None), getattr(layer, "out_features", None))
    return type(layer).__name__ == "Linear" and all(isinstance(size, int) for size in sizes)


def layer_shapes(root: Network) -> dict[str, tuple[int, ...]]:
    """Name -> weight shape (out, in, ...) of every layer a LoRA can adapt."""
    return {name: _weight_shape(layer) for name, layer in target_layers(root, ALL_LAYERS).items()}


def new_policy(root: Network, config: LoRAConfig) -> Policy:
    """The LoRA of a run that has learned nothing: down random (Kaiming), up zero.

    A layer's start depends on its name and config.init_seed only.
    """
    tensors: dict[str, Tensor] = {}
    for name, layer in target_layers(root, config.target_modules).items():
        out_features, *in_shape = _weight_shape(layer)
        seed = hashlib.sha256(f"{config.init_seed}:{name}".encode()).digest()[:7]
        generator = torch.Generator().manual_seed(int.from_bytes(seed, "big"))
        bound = 1.0 / math.sqrt(math.prod(in_shape))
        down = torch.empty((config.r, *in_shape)).uniform_(-bound, bound, generator=generator)
        tensors[f"{name}.lora_down.weight"] = down
        tensors[f"{name}.lora_up.weight"] = torch.zeros(
            (out_features, config.r, *(1 for _ in in_shape[1:]))
        )
    return Policy(config, tensors)


def check_fits(policy: Policy, root: Network) -> None:
    """Raise ValueError, naming the first layer, when the LoRA was made for another architecture."""
    modules = dict(root.named_modules())
    for name in policy.layers:
        layer = modules.get(name)
        shape = None if layer is None else _weight_shape(layer)
        down = policy.tensors[f"{name}.lora_down.weight"]
        up = policy.tensors[f"{name}.lora_up.weight"]
        if shape is None or tuple(down.shape[1:]) != shape[1:] or up.shape[0] != shape[0]:
            raise ValueError(
                f"This LoRA was made for another architecture: layer {name} is "
                f"{'missing' if shape is None else f'{shape} here'}. Connect the model the run was "
                "started with, or choose a new run name."
            )


class LoRALayers:
    """The trainable form of a Policy: float32 parameters that hooks add to frozen layers."""

    def __init__(self, policy: Policy, device: torch.device | str = "cpu") -> None:
        self._config = policy.config
        self._names = policy.layers
        # clone(): parameters must not share memory with the immutable policy
        self.parameters = {
            name: nn.Parameter(policy.tensors[name].to(device).clone())
            for name in sorted(policy.tensors)
        }

    @property
    def config(self) -> LoRAConfig:
        return self._config

    @property
    def names(self) -> tuple[str, ...]:
        """The adapted layers, sorted."""
        return self._names

    def policy(self) -> Policy:
        """The current weights as immutable data."""
        tensors = {n: p.detach().cpu().clone().contiguous() for n, p in self.parameters.items()}
        return Policy(self._config, tensors)

    @contextmanager
    def attached(self, root: nn.Module) -> Iterator[None]:
        """Add the LoRA to `root`'s layers; every hook is gone afterwards, whatever happens."""
        modules = dict(root.named_modules())
        handles: list[RemovableHandle] = []
        try:
            for name in self._names:
                handles.append(modules[name].register_forward_hook(self._hook(name)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, name: str) -> Any:
        down = self.parameters[f"{name}.lora_down.weight"]
        up = self.parameters[f"{name}.lora_up.weight"]
        scaling = self._config.scaling

        def add(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = inputs[0].to(down.dtype)
            if isinstance(layer, nn.Conv2d):
                hidden = F.conv2d(x, down, None, layer.stride, layer.padding, layer.dilation)
                delta = F.conv2d(hidden, up)
            else:
                # As one matrix: for batches of them torch multiplies in an order that depends on
                # whether a gradient is wanted, and a replay must have the bits of the rollout.
                rows = F.linear(F.linear(x.reshape(-1, x.shape[-1]), down), up)
                delta = rows.reshape(output.shape)
            return output + (scaling * delta).to(output.dtype)

        return add


def _weight_shape(layer: nn.Module) -> tuple[int, ...]:
    """(out, in, ...) of a layer, from its attributes: a quantised weight has another shape."""
    if is_linear(layer):
        return int(layer.out_features), int(layer.in_features)  # type: ignore[arg-type]
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels, layer.in_channels, *layer.kernel_size
    raise TypeError(f"LoRA adapts Linear and Conv2d layers, not {type(layer).__name__}.")
