"""What has no feedback is held to what the base model makes of it, unless all pixels have some."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from host_prompts import TINY, Graph, grey, painted, save_map
from pxpo_dev.server import Server


@pytest.mark.parametrize(("columns", "held"), [(TINY // 4, True), (TINY, False)])
def test_only_unmarked_pixels_are_held(
    server: Server, press: Callable[..., Graph], maps: Path, columns: int, held: bool
) -> None:
    drifts = []
    for _ in range(2):
        levels = np.full((TINY, TINY), 128)
        levels[:, :columns] = 255
        weak = np.where(levels == 255, 160, 128)
        names = [save_map(maps, grey(one)) for one in (levels, weak)]
        result = server.client.run(painted(press(), *names))
        (numbers,) = result.ui("update", "pxpo_update")
        assert numbers["trained"]
        drifts.append(numbers["kl"])
    # Before the first round the model is the base model.
    assert drifts[0] == pytest.approx(0.0, abs=1e-12)
    assert (drifts[1] > 1e-9) == held
