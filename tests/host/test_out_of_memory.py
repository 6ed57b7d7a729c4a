"""Memory runs out while a round is trained: it takes fewer pictures at once, or says what helps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from host_prompts import Graph, rounds
from pxpo_dev.client import ExecutionFailed
from pxpo_dev.server import Server

from pxpo_core.run import RunStore


def with_memory_for(graph: Graph, rows: int) -> Graph:
    """The same press on a machine that can train `rows` at once; a picture is two with cfg."""
    graph["little"] = {
        "class_type": "PXPOTest_LittleMemory",
        "inputs": {"model": ["model", 0], "rows": rows},
    }
    graph["run"]["inputs"]["model"] = ["little", 0]
    return graph


def test_fewer_pictures_at_once_make_the_same_round(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    four = {"latent": {"batch_size": 4}}
    small = folder.name + " small"
    one_by_one = press(run={"run_name": small}, update={"micro_batch": 1}, **four)
    server.client.run(with_memory_for(one_by_one, 2))
    result = server.client.run(with_memory_for(press(**four), 2))
    assert "only 1 at once were trained" in result.ui("update", "text")[0]
    assert result.ui("update", "pxpo_update")[0]["micro_batch"] == 1
    store = RunStore(folder.parent)
    assert store.policy(folder.name, 1).digest == store.policy(small, 1).digest


def test_when_nothing_helps_the_node_names_three_settings_and_the_run_is_whole(
    server: Server, press: Callable[..., Graph], folder: Path
) -> None:
    server.client.run(press())
    with pytest.raises(ExecutionFailed, match="UpdateMemoryError") as caught:
        server.client.run(with_memory_for(press(), 0))
    for setting in ("the run is as it was", "smaller pictures", "cfg 1", "target_modules"):
        assert setting in str(caught.value)
    assert rounds(folder) == ["round_0001"]
    assert RunStore(folder.parent).head(folder.name) is not None
    following = server.client.run(press())
    assert following.ui("update", "pxpo_update")[0]["round"] == 2
