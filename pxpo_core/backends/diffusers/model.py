"""What the algorithm must know about a pipeline: its network, noise levels and pictures."""

from typing import Any

import torch
from torch import Tensor

from ...fingerprint import fingerprint
from .loading import PipelineError
from .names import NamedNetwork, names_of
from .schedule import nearest_timestep, noise_levels

PREDICTIONS = ("epsilon", "v_prediction")


class PipelineModel:
    """A pipeline of the SD1.5, SD2 or SDXL kind, ready for training; the pipeline is not changed.

    Raises PipelineError, saying what about it PXPO cannot train.
    """

    def __init__(self, pipeline: Any) -> None:
        unet = getattr(pipeline, "unet", None)
        if unet is None or type(unet).__name__ != "UNet2DConditionModel":
            raise PipelineError(
                f"PXPO trains pipelines of the SD1.5, SD2 and SDXL kinds, not a "
                f"{type(pipeline).__name__}."
            )
        config = unet.config
        if config["in_channels"] != config["out_channels"]:
            raise PipelineError(
                f"This UNet takes {config['in_channels']} channels and gives "
                f"{config['out_channels']}: inpainting and editing models cannot be trained."
            )
        if config["addition_embed_type"] not in (None, "text_time"):
            raise PipelineError(
                f"This UNet takes {config['addition_embed_type']} conditioning, which PXPO does "
                "not know."
            )
        prediction = str(pipeline.scheduler.config.get("prediction_type", "epsilon"))
        if prediction not in PREDICTIONS:
            raise PipelineError(
                f"The scheduler's prediction_type must be one of {', '.join(PREDICTIONS)}, got "
                f"{prediction!r}."
            )
        self.pipeline, self.unet = pipeline, unet
        self.network = NamedNetwork(unet, names_of(config))
        self.levels = noise_levels(pipeline.scheduler)
        self.predicts_v = prediction == "v_prediction"

    @property
    def device(self) -> torch.device:
        return torch.device(self.unet.device)

    @property
    def channels(self) -> int:
        """Channels of a latent."""
        return int(self.unet.config["in_channels"])

    @property
    def reduction(self) -> int:
        """Image pixels per latent pixel, along one side."""
        return int(self.pipeline.vae_scale_factor)

    def fingerprint(self) -> str:
        """Identity of the base model; ComfyUI's MODEL of the same weights has the same."""
        return fingerprint(self.network.state_dict())

    def timestep(self, sigma: float) -> int:
        """The training timestep the UNet is told for a noise level."""
        return nearest_timestep(self.levels, sigma)

    def first_latent(self, noise: Tensor, sigma: float) -> Tensor:
        """x_T from unit noise; from the schedule's top it has the model's full variance."""
        top = abs(sigma / float(self.levels[-1]) - 1.0) < 1e-5
        return noise * ((1.0 + sigma**2) ** 0.5 if top else sigma)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Pictures of latents [B, C, h, w]: [B, H, W, 3] in 0..1, float32, on the CPU."""
        vae = self.pipeline.vae
        pictures = []
        for latent in torch.split(latents, 1):  # a VAE takes more memory than the UNet
            scaled = latent.to(self.device, vae.dtype) / vae.config["scaling_factor"]
            pictures.append(vae.decode(scaled, return_dict=False)[0].float().cpu())
        return (torch.cat(pictures) / 2.0 + 0.5).clamp(0.0, 1.0).permute(0, 2, 3, 1).contiguous()
