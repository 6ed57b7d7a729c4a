"""Whether a run still is the one that a round was made for."""

from collections.abc import Mapping
from typing import Any

from .errors import RunMismatchError, StaleRolloutError
from .manifest import Manifest, RoundInfo
from .records import RoundRecord


def check_expected(
    name: str,
    manifest: Manifest | None,
    newest: RoundInfo | None,
    expected_uuid: str | None,
    expected_round: int,
    expected_digest: str | None,
) -> None:
    """Raise StaleRolloutError unless the run still is what the pictures were made by."""
    actual = 0 if newest is None else newest.round
    advice = "Make new pictures with the run as it is now. Your marks are kept."
    if actual != expected_round:
        raise StaleRolloutError(
            f"Run {name} is at round {actual}, but these pictures were made by round "
            f"{expected_round}. {advice}"
        )
    # Between the manifest and round 1, or with every round deleted, a run is as good as new.
    fresh = newest is None and expected_uuid is None
    if not fresh and expected_uuid != (manifest.uuid if manifest else None):
        raise StaleRolloutError(
            f"Run {name} is not the run that made these pictures: it was deleted or replaced "
            f"since. {advice}"
        )
    if newest is not None and expected_digest not in (None, newest.policy):
        raise StaleRolloutError(
            f"Round {actual} of run {name} was made again since these pictures were made. {advice}"
        )


def check_same_run(name: str, manifest: Manifest, record: RoundRecord) -> None:
    """Raise RunMismatchError when the round is of another model or has other LoRA settings."""
    if manifest.base != record.base:
        raise RunMismatchError(
            f"Run {name} was started with another model. Connect that model, or use a new run name."
        )
    config = record.policy.config.to_dict()
    if dict(manifest.lora) != config:
        raise RunMismatchError(
            f"Run {name} was started with the LoRA settings {_listed(manifest.lora)}, not "
            f"{_listed(config)}. Set them back, or use a new run name."
        )


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in sorted(values.items()))
