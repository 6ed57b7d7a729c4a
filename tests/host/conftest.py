"""Fixtures of the host tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from host_prompts import Events, Graph, training_graph
from pxpo_dev.server import Server


@pytest.fixture
def press(run_name: str) -> Callable[..., Graph]:
    """The prompt that one press of Run sends, for a run of this test's own."""
    return lambda **changes: training_graph(run_name, **changes)


@pytest.fixture
def folder(server: Server, run_name: str) -> Path:
    """Where the test's run is kept."""
    return server.base / "output" / "pxpo" / run_name


@pytest.fixture
def maps(server: Server) -> Path:
    """Where the paint widget's maps are kept."""
    folder = server.base / "input" / "pxpo" / "maps"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def events(server: Server) -> Iterator[Events]:
    """The server's events during the test."""
    with Events(server) as listening:
        yield listening
