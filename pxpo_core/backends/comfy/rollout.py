"""The PXPO_ROLLOUT that travels between nodes: a trajectory and how to replay it."""

from dataclasses import dataclass

from ...lora import Policy
from ...rollout import Trajectory
from .policy_model import RunIdentity
from .session import SamplingJob


@dataclass(frozen=True, eq=False)
class Rollout:
    """One sampled batch. run and policy are None when the MODEL came from no training run.

    base: fingerprint of the base model.
    """

    trajectory: Trajectory
    job: SamplingJob
    policy: Policy | None
    run: RunIdentity | None
    base: str
