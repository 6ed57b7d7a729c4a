"""What other nodes patched into a MODEL: its names, and the networks and tensors it holds on to."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .conditioning import Control

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_SEARCH_DEPTH = 6
_NOT_PATCHES = ("transformer_options", "sample_sigmas", "optimized_attention_override")

_NOT_REPEATABLE = {
    "easycache": "EasyCache (it reuses earlier steps)",
    "lazycache": "LazyCache (it reuses earlier steps)",
    "hypertile": "HyperTile (it draws random tiles)",
    "tome": "Token Merging (it draws random tokens)",
    "torch.compile": "torch.compile (it does not see the LoRA that is trained)",
}
"""By a word in the names of what a node patched in."""


class PatchError(ValueError):
    """Another node changed the model in a way that cannot be trained through."""


def refuse_unrepeatable(model: "ModelPatcher") -> None:
    """Raise PatchError, naming the nodes, when a model will not predict the same twice."""
    words = [name.lower() for name in patch_names(model)]
    found = [text for word, text in _NOT_REPEATABLE.items() if any(word in w for w in words)]
    if hasattr(model.get_model_object("diffusion_model"), "_orig_mod"):
        found.append(_NOT_REPEATABLE["torch.compile"])
    if found:
        raise PatchError(
            f"PXPO cannot learn through {' and '.join(dict.fromkeys(found))}: an update asks the "
            "model again for what it predicted while sampling. Bypass this node before PXPO "
            "Training Run; it can stay in the branch that makes the final pictures."
        )


def patch_names(model: "ModelPatcher") -> list[str]:
    """Names of the functions, objects and keys that other nodes put into a model."""
    options = model.model_options
    names: dict[str, None] = {}
    for holder in (options, options.get("transformer_options", {})):
        for key, value in holder.items():
            if key not in _NOT_PATCHES and value:
                names |= dict.fromkeys(_names(value))
                if not isinstance(value, Mapping | list | tuple):
                    names[key] = None
    for wrappers in model.wrappers.values():
        for key, functions in wrappers.items():
            if functions:
                names |= dict.fromkeys([str(key), *_names(functions)])
    names.pop("pxpo", None)
    return list(names)


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _names(inner)
    elif callable(value):
        function: Callable[..., Any] = value
        name = getattr(function, "__qualname__", None) or type(function).__qualname__
        yield name.replace(".<locals>", "")


def other_networks(guider: Any) -> list[nn.Module]:
    """Networks of other nodes that run inside a guider's model: a gradient passes through them.

    Not those of ControlNets, which only see the latent.
    """
    patcher = guider.model_patcher
    controls = {
        id(control_patcher)
        for entries in guider.conds.values()
        for entry in entries
        if isinstance(entry.get("control"), Control)
        for control_patcher in entry["control"].get_models()
    }
    found = {
        id(other.model): other.model
        for other in (*guider.loaded_models, *patcher.model_patches_models())
        if id(other) not in controls and other.model is not patcher.model
    }
    held = _held_by(patcher.model_options, _SEARCH_DEPTH)
    found |= {id(module): module for module in held if isinstance(module, nn.Module)}
    return [module for module in found.values() if isinstance(module, nn.Module)]


def holds_inference_tensors(model: "ModelPatcher") -> bool:
    """Whether patches compute with tensors that nodes made, which autograd refuses to save."""
    held = _held_by(model.model_options, _SEARCH_DEPTH)
    return any(isinstance(value, Tensor) and value.is_inference() for value in held)


def _held_by(value: Any, depth: int) -> Iterator[nn.Module | Tensor]:
    """Networks and tensors that patched functions and objects hold on to."""
    if depth == 0 or value is None or isinstance(value, str | int | float | type):
        return
    if isinstance(value, Tensor):
        yield value
        return
    inner: list[Any] = []
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, list | tuple | set):
        inner = list(value)
    elif isinstance(value, nn.Module):
        yield value
        inner = [v for k, v in vars(value).items() if k not in ("_parameters", "_buffers")]
    elif callable(value):
        inner = [_content(cell) for cell in getattr(value, "__closure__", None) or ()]
        inner += [getattr(value, "__self__", None), *getattr(value, "__dict__", {}).values()]
    for item in inner:
        yield from _held_by(item, depth - 1)


def _content(cell: Any) -> Any:
    """What a closure's cell holds; None when it was never filled."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


class OrdinaryTensors(TorchFunctionMode):
    """Within it, functions get ordinary copies of inference tensors, which autograd can save."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name in ("detach", "clone", "is_inference", "__get__", "__set__") or _in_place(name):
            return func(*args, **(kwargs or {}))
        return func(*_ordinary(args), **_ordinary(kwargs or {}))


def _in_place(name: str) -> bool:
    return name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))


def _ordinary(value: Any) -> Any:
    if isinstance(value, Tensor):
        with torch._C.DisableTorchFunction():
            return value.detach().clone() if value.is_inference() else value
    if type(value) is tuple:
        return tuple(_ordinary(item) for item in value)
    if type(value) is list:
        return [_ordinary(item) for item in value]
    if type(value) is dict:
        return {key: _ordinary(item) for key, item in value.items()}
    return value
