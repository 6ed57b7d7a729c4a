"""A full disk and a read-only run, a kill in the middle, and the next server: nothing is lost."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator

import pytest
from pxpo_dev.server import Server

from benchmarks.kills.measurement import Measurement


@pytest.fixture
def measurement(server: Server) -> Iterator[Measurement]:
    """The benchmark's own measurement; the shared server is there again afterwards."""
    yield Measurement(Namespace(rounds=6, seed=3, disk_full=1), server)
    if server.process is None:
        server.start()


def test_killed_while_nothing_can_be_written(measurement: Measurement) -> None:
    measurement.undisturbed()
    measurement.kill_with_read_only_files(["."])
    refused = measurement.found.refused
    measurement.kill_with_full_disk()
    found = measurement.found
    assert found.problems == []
    if found.skipped:
        pytest.skip(" ".join(found.skipped))
    assert (found.read_only, found.disk_full) == (1, 1)
    assert 0 < refused < found.refused, "the run was not read-only, or the disk not full"
    assert found.rounds_reported >= 4
