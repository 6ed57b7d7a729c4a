"""Numbers for people: what a round's rewards look like."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class RewardSummary:
    """mean and sd over images of each image's mean reward; marked_area: share of non-zero
    pixels, 0..1."""

    mean: float
    sd: float
    images: int
    marked_area: float


def summarize_rewards(reward: Tensor) -> RewardSummary:
    """reward: [B, H, W]; sd is 0 for one image."""
    per_image = reward.flatten(1).mean(dim=1)
    return RewardSummary(
        mean=float(per_image.mean()),
        sd=float(per_image.std()) if len(per_image) > 1 else 0.0,
        images=len(per_image),
        marked_area=float((reward != 0).float().mean()),
    )


def most_marked(reward: Tensor, reviewed: Tensor) -> int:
    """The picture with the most feedback. reward: [B, H, W]; reviewed: [B] bool, any of them."""
    feedback = reward.abs().flatten(1).sum(dim=1)
    return int(feedback.masked_fill(~reviewed, -1.0).argmax())
