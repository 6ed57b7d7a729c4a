"""Marks outlive what a computer does to them: restarts, crashes, undo, copies of a workflow."""

from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paint_page import ARGUMENTS, PaintPage
from PIL import Image
from pxpo_dev import browser
from pxpo_dev.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTH, HEIGHT = 320, 240
OpenPage = Callable[..., PaintPage]


def painted_once(page: PaintPage, pictures: list[str]) -> tuple[int, list[Any]]:
    """A node with one stroke that is saved; its id and marks."""
    node = page.build(pictures)
    page.press()
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 60), (120, 90))
    page.saved()
    marks = page.marks(node)
    assert len(marks) == 1
    return node, marks


def test_a_restart_of_the_server(open_page: OpenPage, server: Server, pictures: list[str]) -> None:
    page = open_page()
    page.reusable = False
    node, marks = painted_once(page, pictures[:2])
    server.stop()
    try:
        # Painting goes on while the server is away, and is saved when it is back.
        page.stroke(page.frame(WIDTH, HEIGHT), (60, 160), (120, 190))
        page.says("Not saved yet")
        assert page.marks(node) != marks
    finally:
        server.start()  # other tests use it too
    page.page.locator(".pxpo-message", has_text="saved.").first.wait_for(timeout=60_000)
    (name,) = page.marks(node)
    assert (server.base / "input" / "pxpo" / "maps" / f"{name}.png").is_file()
    page.seen = set(server.client.get("/history"))
    found = page.painted(page.press())
    assert found[75, 90] == found[175, 90] == -255
    page.errors.clear()  # the browser says that the server was away


def test_a_crash_of_the_browser(
    playwright: Any, server: Server, pictures: list[str], tmp_path: Path
) -> None:
    """The whole browser is killed after a stroke that no file of the workflow has yet."""
    started = []

    def start() -> PaintPage:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=browser.find(),
            args=list(ARGUMENTS),
            viewport={"width": 1700, "height": 1150},
        )
        started.append(context)
        return PaintPage(context.pages[0], server)

    page = start()
    node, _ = painted_once(page, pictures[:2])
    workflow = page.page.evaluate("app.graph.serialize()")
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 160), (120, 190))
    page.saved()
    marks = page.marks(node)
    kill_browser(tmp_path / "profile")
    page = start()
    page.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    restore = page.page.get_by_role("button", name="Restore newer marks")
    restore.click(timeout=30_000)
    page.page.wait_for_selector(".pxpo-thumb .pxpo-dislike", timeout=30_000)
    assert page.marks(node) == marks
    assert restore.count() == 0
    found = page.painted(page.press())
    assert found[75, 90] == found[175, 90] == -255
    started[-1].close()


def kill_browser(profile: Path) -> None:
    """kill -9 for the processes that use this profile, and no others."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if f"--user-data-dir={profile}" in command:
            found.append(int(process.name))
    if not found:
        pytest.skip("the browser's processes cannot be found on this system")
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)


def test_undo_of_the_graph(open_page: OpenPage, pictures: list[str]) -> None:
    page = open_page()
    node, marks = painted_once(page, pictures[:1])
    page.page.wait_for_timeout(1500)
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 160), (120, 190))
    page.saved()
    both = page.marks(node)
    page.page.wait_for_timeout(1500)
    tracker = "app.extensionManager.workflow.activeWorkflow.changeTracker"
    page.page.evaluate(f"{tracker}.undo()")
    page.page.wait_for_selector(".pxpo-thumb .pxpo-dislike", timeout=20_000)
    assert page.marks(node) == marks
    assert shown(page) == [True, False], "the canvas shows the marks of before"
    page.page.evaluate(f"{tracker}.redo()")
    page.page.wait_for_selector(".pxpo-thumb .pxpo-dislike", timeout=20_000)
    page.page.wait_for_timeout(500)
    assert page.marks(node) == both
    assert shown(page) == [True, True]
    found = page.painted(page.press())
    assert found[75, 90] == found[175, 90] == -255


def shown(page: PaintPage) -> list[bool]:
    """Whether the canvas shows paint at the two places where these tests paint."""
    frame = page.frame(WIDTH, HEIGHT)
    page.page.mouse.move(5, 5)
    page.page.wait_for_timeout(300)
    screen = np.asarray(Image.open(io.BytesIO(page.page.screenshot())).convert("RGB")).astype(int)
    places = []
    for x, y in ((90, 75), (90, 175)):
        column, row = (round(v) for v in frame.screen(x, y))
        patch = screen[row - 6 : row + 7, column - 6 : column + 7].reshape(-1, 3)
        orange = (patch[:, 0] > patch[:, 2] + 60) & (patch[:, 0] > 140)
        places.append(bool(orange.mean() > 0.5))
    return places


def test_two_workflows_of_one_file(open_page: OpenPage, pictures: list[str]) -> None:
    """Both have the node's id; neither gets the other's pictures or marks."""
    page = open_page()
    page.reusable = False
    node, marks = painted_once(page, pictures[:1])
    workflow = page.page.evaluate("app.graph.serialize()")
    page.page.wait_for_timeout(1500)
    page.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.page.wait_for_timeout(1200)
    page.page.evaluate("workflow => app.loadGraphData(workflow, true, true, null)", workflow)
    page.page.wait_for_selector(".pxpo-thumb .pxpo-dislike", timeout=20_000)
    assert page.marks(node) == marks, "the copy starts with the marks of the file"
    page.page.evaluate(
        """name => app.graph.nodes.find((n) => n.type === "LoadImage").widgets[0].value = name""",
        pictures[1],
    )
    found = page.painted(page.press())
    assert not found.any(), "marks of another picture"
    ids = page.page.evaluate(
        """() => app.extensionManager.workflow.openWorkflows.flatMap((w) => (
            (w === app.extensionManager.workflow.activeWorkflow
                ? app.graph.serialize() : w.changeTracker.activeState).nodes
            .filter((n) => n.type === "PXPO_PaintReward")
            .map((n) => n.widgets_values.find((v) => v?.version === 1).node)))"""
    )
    assert len(ids) == len(set(ids)) == 2
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 160), (120, 190))
    page.saved()
    found = page.painted(page.press())
    assert found[175, 90] == -255
    assert found[75, 90] == 0
