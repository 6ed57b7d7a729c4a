"""The list of nodes ComfyUI registers."""

from comfy_api.latest import ComfyExtension, io

from .before_after import BeforeAfter
from .combine_rewards import CombineRewards
from .copy_run import CopyRun
from .ddim_logprob_sampler import DDIMLogProbSampler
from .delete_run import DeleteRun
from .go_back import GoBack
from .load_toy_faces import LoadToyFaces
from .paint_reward import PaintReward
from .picture_rollout import PictureRollout
from .pixel_reward import PixelRewardNode
from .save_lora import SaveLoRA
from .training_run import TrainingRun
from .update_lora import UpdateLoRA


class PXPOExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            TrainingRun,
            DDIMLogProbSampler,
            PictureRollout,
            PixelRewardNode,
            PaintReward,
            CombineRewards,
            UpdateLoRA,
            SaveLoRA,
            BeforeAfter,
            GoBack,
            CopyRun,
            DeleteRun,
            LoadToyFaces,
        ]
