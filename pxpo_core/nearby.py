"""What lies near a pixel."""

import torch.nn.functional as F
from torch import Tensor


def largest_within(maps: Tensor, reach: int) -> Tensor:
    """The largest value at most `reach` rows and columns away: [B, h, w] of maps [B, h, w]."""
    # A square's maximum is that of its rows, then of its columns: far fewer comparisons.
    tall = F.max_pool2d(maps[:, None], (2 * reach + 1, 1), 1, (reach, 0))
    return F.max_pool2d(tall, (1, 2 * reach + 1), 1, (0, reach))[:, 0]
