"""What the UNet is told besides the noisy latent: prompts, and for SDXL the picture's size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prompt:
    """One side of the guidance for B samples.

    embeddings: [B, tokens, width]. pooled: [B, width] and time_ids: [B, 6], (height, width, top,
    left, target height, target width) in pixels; both for SDXL only.
    """

    embeddings: Tensor
    pooled: Tensor | None = None
    time_ids: Tensor | None = None

    def rows(self, samples: Sequence[int]) -> "Prompt":
        """The prompts of some samples."""
        chosen = list(samples)
        pooled = None if self.pooled is None else self.pooled[chosen]
        time_ids = None if self.time_ids is None else self.time_ids[chosen]
        return Prompt(self.embeddings[chosen], pooled, time_ids)


def joined(first: Prompt, second: Prompt) -> Prompt:
    """Both prompts' rows, for one call of the UNet."""
    return Prompt(
        torch.cat([first.embeddings, second.embeddings]),
        _joined(first.pooled, second.pooled),
        _joined(first.time_ids, second.time_ids),
    )


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])


@torch.no_grad()
def encode(
    pipeline: Any, prompts: Sequence[str], negative: str, width: int, height: int
) -> tuple[Prompt, Prompt]:
    """Positive and negative prompts, one row per prompt.

    width, height: of the pictures in pixels, which SDXL is told. An empty negative prompt is
    encoded like any other text, as in ComfyUI.
    """
    encoded = pipeline.encode_prompt(
        prompt=list(prompts),
        negative_prompt=[negative] * len(prompts),
        device=pipeline.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=True,
    )
    if len(encoded) == 2:  # SD1.5
        return Prompt(encoded[0]), Prompt(encoded[1])
    size = torch.tensor([[height, width, 0, 0, height, width]] * len(prompts), dtype=torch.float32)
    time_ids = size.to(encoded[0].device)
    return Prompt(encoded[0], encoded[2], time_ids), Prompt(encoded[1], encoded[3], time_ids)
