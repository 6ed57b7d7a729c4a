"""How far a run's policy has moved from the MODEL it trains."""

from collections.abc import Sequence

from ...drift import path_drift
from .rollout import Rollout
from .session import BaseSession


def rollouts_drift(rollouts: Sequence[Rollout]) -> float:
    """Mean of the rollouts' drift, in nats per latent value, from one picture each.

    0 for finished pictures, which have no path, and for a policy that has learned nothing.
    """
    drifts = []
    for rollout in rollouts:
        sampled = rollout.trajectory.process == "reverse"
        moved = rollout.policy is not None and not rollout.policy.is_new
        session = BaseSession(rollout.job)
        drifts.append(path_drift(rollout.trajectory, session) if sampled and moved else 0.0)
    return sum(drifts) / len(drifts)
