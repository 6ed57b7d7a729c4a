"""Fixtures shared by all tests: the real ComfyUI, in this process and as a server."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from pxpo_dev import browser
from pxpo_dev.comfyui import ComfyUI, base_directory, read
from pxpo_dev.environment import Environment
from pxpo_dev.launch import import_torchvision
from pxpo_dev.paths import HOME
from pxpo_dev.server import Server

TEST_NODES = Path(__file__).parent / "host" / "bad_values.py"

LONGEST_FIRST = ("host", "demo", "scripts", "backend", "library")
"""Folders whose files take longest, for processes that run files side by side."""

os.environ.setdefault("GOMP_SPINCOUNT", "0")
# The models are tiny, and there may be a process for every core. Servers inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# One example may have to wait while a neighbour works.
hypothesis.settings.register_profile("side by side", deadline=None)
hypothesis.settings.load_profile("side by side")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests need an installed Chromium; without one they say so.

    Side by side, long files start first: a process that got one last would be waited for.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=duration_rank)
    program = browser.find()
    for item in items:
        if item.get_closest_marker("browser") and program is None:
            item.add_marker(pytest.mark.skip(reason=browser.MISSING))


def duration_rank(item: pytest.Item) -> int:
    """Where a test's folder is in LONGEST_FIRST; all others come after those."""
    folder = item.path.parent.name
    return LONGEST_FIRST.index(folder) if folder in LONGEST_FIRST else len(LONGEST_FIRST)


@pytest.fixture(scope="session")
def comfyui_checkout() -> ComfyUI:
    """The ComfyUI to test against: COMFYUI_PATH, else the one scripts/test.py fetched."""
    root = Path(os.environ.get("COMFYUI_PATH") or HOME / "ComfyUI")
    if not (root / "main.py").exists():
        pytest.fail(f"No ComfyUI in {root}. Run python3 scripts/test.py, or set COMFYUI_PATH.")
    return read(root.resolve())


@pytest.fixture(scope="session")
def comfyui(
    comfyui_checkout: ComfyUI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyUI]:
    """ComfyUI importable in this process, on the CPU, with its folders in a temporary place."""
    import_torchvision()
    sys.path.insert(0, str(comfyui_checkout.root))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = True
    import folder_paths

    base = tmp_path_factory.mktemp("comfyui")
    for kind in ("output", "temp", "input", "user"):
        (base / kind).mkdir()
        getattr(folder_paths, f"set_{kind}_directory")(str(base / kind))
    yield comfyui_checkout
    sys.path.remove(str(comfyui_checkout.root))


@pytest.fixture(scope="session")
def start_server(
    comfyui_checkout: ComfyUI, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartServer]:
    """A function that starts a real server, each in a fresh base directory."""
    starter = StartServer(comfyui_checkout, tmp_path_factory)
    yield starter
    starter.stop_all()


class StartServer:
    """Starts servers and ends those that are left at the end of the session."""

    def __init__(self, comfyui: ComfyUI, factory: pytest.TempPathFactory) -> None:
        self.comfyui, self.factory = comfyui, factory
        self.environment = Environment(Path(sys.prefix))
        self.servers: list[Server] = []

    def __call__(self, frontend: Path | None = None) -> Server:
        base = base_directory(self.factory.mktemp("server"))
        shutil.copy(TEST_NODES, base / "custom_nodes")
        server = Server(self.environment, self.comfyui, base, frontend=frontend)
        self.servers.append(server)
        return server.start()

    def stop_all(self) -> None:
        for server in self.servers:
            server.stop()


@pytest.fixture(scope="session")
def shared_server(start_server: StartServer) -> Server:
    """One server for all tests that leave it as they found it."""
    return start_server()


@pytest.fixture
def server(shared_server: Server) -> Iterator[Server]:
    """The shared server without runs of earlier tests; a failing test shows its log."""
    start = len(shared_server.log_text())
    yield shared_server
    shared_server.client.settle()
    shutil.rmtree(shared_server.base / "output" / "pxpo", ignore_errors=True)
    sys.stdout.write(shared_server.log_text()[start:][-6000:])


@pytest.fixture
def run_name(request: pytest.FixtureRequest) -> str:
    """A run name of this test's own."""
    return re.sub(r"[^A-Za-z0-9]+", "_", request.node.name).strip("_")[:48]
