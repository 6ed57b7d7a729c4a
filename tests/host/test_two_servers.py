"""Two ComfyUI processes that share one output folder, and train one run at the same time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from host_prompts import Graph, rounds
from pxpo_dev.client import ExecutionFailed
from pxpo_dev.comfyui import base_directory
from pxpo_dev.server import Server

from pxpo_core.run import RunStore

REFUSED = re.compile(r"is at round \d+, but these pictures were made by round \d+|being written")


@pytest.fixture
def other(server: Server, start_server: Any, tmp_path: Path) -> Iterator[Server]:
    """A second server, with the output folder of the first."""
    base = base_directory(tmp_path / "other")
    (base / "output").rmdir()
    (base / "output").symlink_to(server.base / "output", target_is_directory=True)
    made = Server(start_server.environment, start_server.comfyui, base)
    yield made.start()
    made.stop()


def train(server: Server, graph: Graph, presses: int) -> tuple[list[int], list[str]]:
    """The rounds that were made, and what was said of those that were refused."""
    made, refused = [], []
    for _ in range(presses):
        try:
            result = server.client.run(graph)
        except ExecutionFailed as error:
            refused.append(str(error))
        else:
            made.append(int(result.ui("update", "pxpo_update")[0]["round"]))
    return made, refused


def test_no_round_is_mixed_or_lost(
    server: Server, other: Server, press: Callable[..., Graph], folder: Path
) -> None:
    presses = 3
    go_on = {"auto_stop": False}  # so few and so small pictures look like falling apart
    with ThreadPoolExecutor() as pool:
        one, two = pool.map(lambda s: train(s, press(update=go_on), presses), (server, other))
    made = sorted(one[0] + two[0])
    assert made == list(range(1, len(made) + 1)), "a round was made twice, or is missing"
    assert len(rounds(folder)) == len(made) >= presses
    for text in one[1] + two[1]:
        assert REFUSED.search(text), text
    # The same inputs: had anything been mixed, the weights would not be those of one server alone.
    alone = folder.name + " alone"
    train(server, press(run={"run_name": alone}, update=go_on), len(made))
    store = RunStore(folder.parent)
    for number in made:
        assert store.policy(folder.name, number).digest == store.policy(alone, number).digest
    # What either makes next goes on from what the other made last.
    assert train(other, press(update=go_on), 1)[0] == [len(made) + 1]
    assert train(server, press(update=go_on), 1)[0] == [len(made) + 2]
