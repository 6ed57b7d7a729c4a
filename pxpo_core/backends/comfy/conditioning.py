"""A batch's conditioning, for any of its samples: prompts, regional masks and ControlNets.

The host lays out a shorter batch of prompts, masks or control images over a longer batch of
latents by repeating it, so sample i has entry i modulo their number.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import comfy.conds
import torch
from torch import Tensor

Entry = dict[str, Any]
"""One conditioning as the host's guider holds it."""


class Control:
    """A ControlNet or T2I adapter, as the host sees it, that keeps nothing for backward.

    Its output depends on the latent alone, never on the LoRA, and its own weights are not ours to
    train: without gradients it costs no memory. Everything else is the wrapped object's.
    """

    def __init__(self, control: Any) -> None:
        self._control = control
        self._parts: dict[tuple[int, ...], Control] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._control, name)

    def get_control(self, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return self._control.get_control(*args, **kwargs)

    def rows(self, rows: Sequence[int]) -> "Control":
        """The same for some samples: one whose images are theirs. The host encodes them once."""
        chosen = tuple(rows)
        if chosen not in self._parts:
            self._parts[chosen] = Control(_control_rows(self._control, chosen))
        return self._parts[chosen]


def _control_rows(control: Any, rows: tuple[int, ...]) -> Any:
    """A copy of a ControlNet chain with its control images cut to `rows`; the models are shared."""
    part = copy.copy(control)
    if part.previous_controlnet is not None:
        part.previous_controlnet = _control_rows(part.previous_controlnet, rows)
    part.cond_hint_original = _rows(part.cond_hint_original, rows)
    part.extra_concat_orig = [_rows(extra, rows) for extra in part.extra_concat_orig]
    # What the host made of the whole batch's images; it is made again from the ones above.
    for name in ("cond_hint", "extra_concat", "control_input"):
        if hasattr(part, name):
            setattr(part, name, None)
    return part


def without_control_gradients(conds: dict[str, list[Entry]]) -> dict[str, list[Entry]]:
    """A guider's conditioning with every ControlNet wrapped, each once."""
    wrapped: dict[int, Control] = {}

    def wrap(entry: Entry) -> Entry:
        control = entry.get("control")
        if control is None:
            return entry
        return {**entry, "control": wrapped.setdefault(id(control), Control(control))}

    return {name: [wrap(entry) for entry in entries] for name, entries in conds.items()}


def entry_rows(entries: Sequence[Entry], rows: Sequence[int]) -> list[Entry]:
    """Conditioning entries cut to `rows`, wherever they hold one value per sample."""

    def cut(entry: Entry) -> Entry:
        part = {
            **entry,
            "model_conds": {k: _cond(v, rows) for k, v in entry["model_conds"].items()},
        }
        if isinstance(entry.get("mask"), Tensor):
            part["mask"] = _rows(entry["mask"], rows)
        if isinstance(entry.get("control"), Control):
            part["control"] = entry["control"].rows(rows)
        return part

    return [cut(entry) for entry in entries]


def _cond(cond: Any, rows: Sequence[int]) -> Any:
    """One of the host's COND objects, cut to `rows`; constants stay as they are."""
    value = getattr(cond, "cond", None)
    copy_with: Callable[[Any], Any] | None = getattr(cond, "_copy_with", None)
    if copy_with is None or isinstance(cond, comfy.conds.CONDConstant):
        return cond
    if isinstance(value, Tensor):
        return copy_with(_rows(value, rows))
    if isinstance(value, list) and all(isinstance(item, Tensor) for item in value):
        return copy_with([_rows(item, rows) for item in value])
    return cond


def _rows(value: Any, rows: Sequence[int]) -> Any:
    """Rows of a tensor whose first dimension is the sample; a single row serves all of them."""
    if not isinstance(value, Tensor) or value.ndim == 0 or value.shape[0] <= 1:
        return value
    return value[[row % value.shape[0] for row in rows]]
