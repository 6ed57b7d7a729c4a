"""Whether rollouts and rewards may train a run; all of it before any work starts."""

from collections.abc import Sequence

from ..pxpo_core.backends.comfy.policy_model import RunIdentity
from ..pxpo_core.backends.comfy.rollout import Rollout
from ..pxpo_core.lora import Policy
from ..pxpo_core.reward import PixelReward
from ..pxpo_core.run import RunHead, StaleRolloutError
from ..pxpo_core.stepwise import checkpoints
from ..pxpo_core.update import UpdateConfig


def common_run(
    rollouts: Sequence[Rollout], rewards: Sequence[PixelReward]
) -> tuple[RunIdentity, Policy]:
    """The one run and policy all rollouts come from; raises ValueError on what cannot belong."""
    if len(rollouts) != len(rewards):
        raise ValueError(
            f"Got {len(rollouts)} rollouts and {len(rewards)} rewards: connect one reward for "
            "each rollout."
        )
    first = rollouts[0]
    if first.run is None or first.policy is None:
        raise ValueError(
            "These pictures were sampled without a training run. Put PXPO Training Run between the "
            "model and the DDIM LogProb Sampler."
        )
    for number, (rollout, reward) in enumerate(zip(rollouts, rewards, strict=True), start=1):
        if rollout.run != first.run or rollout.base != first.base:
            raise ValueError(
                f"Rollout {number} comes from another model or training run than the first. "
                "Connect rollouts of one run only."
            )
        if reward.painted != rewards[0].painted:
            raise ValueError(
                "One round cannot mix painted and automatic rewards: their strengths do not "
                "compare. Combine them per picture with Combine Pixel Rewards instead."
            )
        trajectory = rollout.trajectory
        if reward.batch != trajectory.batch:
            raise ValueError(
                f"The reward is for {reward.batch} pictures, the rollout has {trajectory.batch}. "
                "Connect the reward of exactly the sampled pictures."
            )
        height, width = trajectory.x_0.shape[-2:]
        if reward.map.shape[1] < height or reward.map.shape[2] < width:
            raise ValueError(
                f"The reward map ({reward.map.shape[2]}x{reward.map.shape[1]}) is smaller than the "
                f"latent ({width}x{height}). Score the decoded pictures, not the latent."
            )
        if not trajectory.trainable:
            raise ValueError(
                f"Training needs eta above 0 in the DDIM LogProb Sampler, got {trajectory.eta}: "
                "without fresh noise there is nothing to learn from."
            )
        if trajectory.x_0.shape[1:] != first.trajectory.x_0.shape[1:] or (
            reward.map.shape[1:] != rewards[0].map.shape[1:]
        ):
            raise ValueError("All pictures of one round must have the same size.")
    return first.run, first.policy


def check_judged(
    rollouts: Sequence[Rollout],
    rewards: Sequence[PixelReward],
    judged: Sequence[PixelReward],
    config: UpdateConfig,
) -> None:
    """Refuse rewards that cannot be of these rollouts' predictions, or that nothing would use."""
    if config.objective == "pictures":
        raise ValueError(
            "prediction_reward credits the steps of the sampling path: disconnect it, or set "
            "objective to automatic or path."
        )
    if len(judged) != len(rollouts):
        raise ValueError(
            f"Got {len(rollouts)} rollouts and {len(judged)} prediction rewards: connect one for "
            "each rollout, or none."
        )
    for rollout, reward, seen in zip(rollouts, rewards, judged, strict=True):
        trajectory = rollout.trajectory
        if trajectory.process == "forward":
            raise ValueError(
                "Finished pictures have no predictions: disconnect prediction_reward, or use the "
                "DDIM LogProb Sampler."
            )
        if seen.painted:
            raise ValueError(
                "prediction_reward must come from an automatic rule, not from painted marks."
            )
        if reward.painted:
            raise ValueError(
                "The pictures' reward is painted, and prediction_reward must be the same reward: "
                "disconnect prediction_reward."
            )
        wanted = len(checkpoints(len(trajectory.trainable))) * trajectory.batch
        if seen.batch != wanted:
            raise ValueError(
                f"prediction_reward is for {seen.batch} pictures, but the sampler's predictions "
                f"are {wanted}. Connect the reward of exactly the decoded predictions."
            )
        if seen.map.shape[1:] != reward.map.shape[1:]:
            (height, width), (high, wide) = seen.map.shape[1:], reward.map.shape[1:]
            raise ValueError(
                f"prediction_reward is for pictures of {width}x{height}, the reward for {wide}x"
                f"{high}. Decode the predictions as the pictures."
            )


def check_current(head: RunHead, run: RunIdentity, policy: Policy) -> None:
    """Refuse pictures of an older round before any work starts."""
    same_run = head.uuid == run.uuid or (head.round == 0 and run.uuid is None)
    same_policy = head.policy is None or head.policy.digest == policy.digest
    if head.round != run.round or not same_run or not same_policy:
        raise StaleRolloutError(
            f"Run {run.name} is at round {head.round}, but these pictures were made by round "
            f"{run.round} of it{'' if same_run else ', before it was replaced'}. Press Run again "
            "to sample new pictures; your marks are kept."
        )
