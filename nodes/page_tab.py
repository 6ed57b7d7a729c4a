"""Which tab of the web page asked for a result.

The page hands results to the node of that id in whichever workflow is open.
"""

from typing import Any

NAME = "pxpo_chart"
"""An input the page adds to the prompt; no node declares it, so the host ignores it."""

_LONGEST = 64


def page_tab(hidden: Any) -> str | None:
    """The name that the page gave its tab, to be handed back; None from the API."""
    inputs = ((hidden.prompt or {}).get(hidden.unique_id) or {}).get("inputs", {})
    name = inputs.get(NAME)
    return name[:_LONGEST] if isinstance(name, str) else None
