"""The types that travel between PXPO nodes, and what their widgets share."""

from typing import TypeVar

from comfy_api.latest import io

Rollout = io.Custom("PXPO_ROLLOUT")
Reward = io.Custom("PXPO_REWARD")

CATEGORY = "PXPO"

W = TypeVar("W", bound=io.Input)


def advanced(widget: W) -> W:
    """Fold a widget away; hosts that know no advanced widgets show it as any other."""
    widget.extra_dict = {**(widget.extra_dict or {}), "advanced": True}
    return widget
