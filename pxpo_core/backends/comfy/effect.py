"""What an update changed: one sampled picture again, by the new policy and with the same noise."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ...denoiser import Denoiser
from ...lora import LoRALayers, Policy
from ...rollout import Progress, sample_trajectory
from .host_model import has_frames
from .rollout import Rollout
from .session import ReplaySession


def before_and_after(
    rollout: Rollout, row: int, policy: Policy, progress: Progress | None = None
) -> Tensor:
    """LATENT samples [2, C, h, w] in host units: picture `row` as sampled, and by `policy`.

    Costs one sampling of one picture, with the x_T and z of the rollout. A model whose latent is a
    video gets two of one frame.
    """
    path, job = rollout.trajectory, rollout.job

    def again(denoise: Denoiser) -> Tensor:
        def one_row(x: Tensor, sigma: float, samples: Sequence[int]) -> Tensor:
            return denoise(x, sigma, [row + i for i in samples])

        with torch.no_grad():
            # In a replay the host's batch is whole, so that masks and prompts stay the picture's.
            return sample_trajectory(
                one_row,
                path.states[0, row : row + 1].to(job.model.load_device),
                path.noises[:, row : row + 1],
                path.sigmas,
                path.family,
                path.eta,
                path.noise_scale,
                progress,
            ).x_0

    with torch.inference_mode(False):  # a node's body runs in it
        layers = LoRALayers(policy, job.model.load_device)
    after = ReplaySession(job, layers)(again)
    latent = torch.cat([path.x_0[row : row + 1], after])
    sampling = job.model.get_model_object("model_sampling")
    latent = sampling.inverse_noise_scaling(torch.tensor(path.sigmas[-1]), latent)
    if has_frames(job.model):
        latent = latent.unsqueeze(2)
    samples: Tensor = job.model.model.process_latent_out(latent)
    return samples
