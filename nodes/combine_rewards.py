"""Combine Pixel Rewards: a weighted sum, such as less blue and a bit brighter."""

from comfy_api.latest import io

from ..pxpo_core.reward import PixelReward, combine
from .types import CATEGORY, Reward


class CombineRewards(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PXPO_CombineRewards",
            display_name="Combine Pixel Rewards",
            category=CATEGORY,
            description="Adds rewards for the same pictures, each with a weight. A negative "
            "weight turns a reward around.",
            inputs=[
                Reward.Input("reward_a"),
                _weight("weight_a"),
                Reward.Input("reward_b"),
                _weight("weight_b"),
                Reward.Input("reward_c", optional=True),
                _weight("weight_c"),
            ],
            outputs=[Reward.Output(display_name="reward")],
        )

    @classmethod
    def execute(
        cls,
        reward_a: PixelReward,
        weight_a: float,
        reward_b: PixelReward,
        weight_b: float,
        weight_c: float,
        reward_c: PixelReward | None = None,
    ) -> io.NodeOutput:
        rewards, weights = [reward_a, reward_b], [weight_a, weight_b]
        if reward_c is not None:
            rewards.append(reward_c)
            weights.append(weight_c)
        return io.NodeOutput(combine(rewards, weights))


def _weight(name: str) -> io.Float.Input:
    return io.Float.Input(name, default=1.0, min=-100.0, max=100.0, step=0.05)
