"""What lies near a pixel."""

import pytest
import torch
import torch.nn.functional as F

from pxpo_core.nearby import largest_within


@pytest.mark.parametrize("reach", [0, 1, 5])
def test_it_is_the_maximum_of_a_square(reach: int) -> None:
    maps = torch.randn((2, 9, 6), generator=torch.Generator().manual_seed(0))
    square = F.max_pool2d(maps[:, None], 2 * reach + 1, 1, reach)[:, 0]
    assert torch.equal(largest_within(maps, reach), square)
