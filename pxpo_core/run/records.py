"""What a round hands to the store, and what the store gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..lora import Policy
from .manifest import Manifest


@dataclass(frozen=True)
class RoundRecord:
    """What one finished round hands to the store.

    base: fingerprint of the model the run trains. reward_maps: [B, H, W] signed.
    thumbnails: [n, h, w, 3] uint8. state, metrics, settings: JSON objects without NaN. memory:
    small tensors that stay when the optimizer's are removed to save space.
    """

    policy: Policy
    optimizer: Mapping[str, Tensor]
    base: str
    reward_maps: Tensor
    thumbnails: Tensor
    state: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    memory: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class RunHead:
    """A run as it stands. round 0: nothing trained yet, and policy and manifest may be None.

    round_id changes whenever a round is made again, even if its number is the same. history: the
    metrics of every round, oldest first, each with its "round" number and "id". thinned: the
    optimizer's state was removed to save space, and training goes on with a fresh one.
    """

    name: str
    uuid: str | None = None
    round: int = 0
    round_id: str | None = None
    policy: Policy | None = None
    optimizer: Mapping[str, Tensor] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    manifest: Manifest | None = None
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    thinned: bool = False
    history: Sequence[Mapping[str, Any]] = ()
