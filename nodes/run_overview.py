"""What the history on PXPO Training Run shows: a run's rounds and branches, as plain JSON.

The page reads it from overview.json in the run's folder, also after a reload; the pictures lie
beside it, in round_0001/thumb_00.jpg and so on.
"""

import logging
from collections.abc import Mapping
from typing import Any

from ..pxpo_core.run import RunError, RunHead
from .runs import run_store

logger = logging.getLogger(__name__)

SHOWN = ("round", "id", "reward_mean", "reward_sd", "images", "partial")
"""What the history says of a round."""


def publish_overview(head: RunHead) -> dict[str, Any]:
    """The run as the page shows it; also left in the run's folder, where the page reads it."""
    store = run_store()
    overview = {
        "run": head.name,
        "uuid": head.uuid,
        "round": head.round,
        "history": [_shown(entry) for entry in head.history],
        "branches": [
            {
                "branch": branch.number,
                "history": [_shown(e) for e in store.branch_history(head.name, branch.number)],
            }
            for branch in (store.branches(head.name) if head.uuid is not None else ())
        ],
    }
    if head.uuid is not None:
        store.write_overview(head.name, overview)
    return overview


def publish_run(name: str) -> None:
    """Publish a run that a command has changed; a damaged one keeps its old overview."""
    try:
        head = run_store().head(name)
        if head is not None:
            publish_overview(head)
    except RunError as error:
        logger.warning("%s", error)


def _shown(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: entry[key] for key in SHOWN if key in entry}
