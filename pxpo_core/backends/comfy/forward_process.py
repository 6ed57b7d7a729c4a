"""A trajectory from finished pictures: noise is added to them, no sampling path is needed."""

import torch
from torch import Tensor

from ...rollout import Trajectory, diffuse
from ...transition import as_schedule
from .host_model import has_frames, noise_family, noise_scale
from .session import SamplingJob


def noised_pictures(job: SamplingJob, noises: Tensor) -> Trajectory:
    """The job's latent images with noise at every level of its schedule but the last (0).

    noises: [T, B, C, h, w]. Where a noise mask keeps pixels, x is overwritten by the host as in
    inpainting, and nothing is learned there.
    """
    frames = has_frames(job.model)
    with torch.inference_mode(False):
        pictures = job.latent_image.clone()
        x_0 = job.model.model.process_latent_in(pictures.unsqueeze(2) if frames else pictures)
    x_0 = x_0.squeeze(2) if frames else x_0
    sigmas = as_schedule(job.sigmas)
    family, scale = noise_family(job.model), noise_scale(job.model)
    return diffuse(x_0, noises, sigmas, family, scale)
