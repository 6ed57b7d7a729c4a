"""The same widget on the newest web UI, classic and Vue nodes: the core of it on both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from paint_page import Frame, PaintPage
from pxpo_dev.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTH, HEIGHT = 320, 240
OpenPage = Callable[..., PaintPage]


@pytest.fixture
def new_pictures(newest_frontend: Server, make_pictures: Callable[[Path], list[str]]) -> list[str]:
    return make_pictures(newest_frontend.base / "input")


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_paint_undo_reload_and_wait(
    open_page: OpenPage, newest_frontend: Server, new_pictures: list[str], vue: bool
) -> None:
    page = open_page(at=newest_frontend, vue=vue)
    node = page.build(new_pictures[:2])
    page.press()
    nodes = page.page.evaluate("app.graph.nodes.length")
    page.centre(node, 0.8)
    frame = page.frame(WIDTH, HEIGHT)
    page.stroke(frame, (60, 60), (120, 90))
    kept = page.marks(node)
    page.key("x")
    page.stroke(frame, (60, 160), (120, 190))
    page.key("Control+z")
    page.page.wait_for_timeout(400)
    assert page.marks(node) == kept
    assert page.page.evaluate("app.graph.nodes.length") == nodes, "the graph was undone"
    page.saved()
    page.page.wait_for_timeout(1500)
    page.open()
    page.page.wait_for_selector(".pxpo-thumb .pxpo-dislike", timeout=20_000)
    assert page.marks(node) == kept
    page.set_widget(node, wait="until answered")
    page.press(wait=False)
    page.says("The run waits for you")
    page.centre(node)
    page.stroke(page.frame(WIDTH, HEIGHT), (200, 60), (260, 90))
    page.page.get_by_role("button", name="Continue").click()
    found = page.painted(page.finished())
    assert found[75, 90] == found[75, 230] == -255
    assert found[175, 90] == 0
    page.says("Marks on 1 of 2 pictures")


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_the_wheel_zooms_the_picture_in_the_node(
    open_page: OpenPage, newest_frontend: Server, new_pictures: list[str], vue: bool
) -> None:
    page = open_page(at=newest_frontend, vue=vue)
    page.build(new_pictures[:1])
    page.press()
    graph = page.page.evaluate("app.canvas.ds.scale")
    page.page.get_by_label("Hardness").first.fill("1")
    frame = page.frame(WIDTH, HEIGHT)
    page.stage().focus()
    x, y = frame.screen(100, 100)
    page.page.mouse.move(x, y)
    page.page.mouse.wheel(0, -600)
    page.page.wait_for_timeout(300)
    assert page.page.evaluate("app.canvas.ds.scale") == graph, "the graph was zoomed"
    scale = frame.scale * 1.0015**600
    zoomed = Frame(x - 100 * scale, y - 100 * scale, scale)
    page.stroke(zoomed, (85, 95), (115, 105))
    found = page.painted(page.press())
    assert found[100, 100] == -255
    columns = np.flatnonzero(found[100])
    assert columns.max() - columns.min() < 80, "as wide as in the whole picture"
