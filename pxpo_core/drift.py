"""How far a policy has moved from its base model, told by the pictures it samples anyway."""

import torch

from .denoiser import Denoiser, Session
from .rollout import Trajectory
from .stepwise import predictions


def path_drift(trajectory: Trajectory, base: Session, pictures: int = 1) -> float:
    """KL(policy || base) of whole sampling paths, in nats per latent value, from a few pictures.

    base: a session without the LoRA. The policy's own predictions are in the trajectory; the base
    model is called once per stochastic step. Pixels that a mask keeps have no part in it.
    """
    seen = trajectory.rows(slice(pictures))
    made = predictions(seen)

    def total(denoise: Denoiser) -> float:
        nats = 0.0
        for t in seen.trainable:
            step = seen.steps[t]
            with torch.no_grad():
                known = denoise(seen.states[t], step.sigma_t, range(seen.batch)).cpu()
            decided = seen.noises[t].any(dim=1, keepdim=True)
            moved = (made[t] - known) * decided * (step.gain / step.std)
            nats += 0.5 * float(moved.square().mean())
        return nats

    return base(total)
