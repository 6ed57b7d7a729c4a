"""Painting with real pointer events, in the classic canvas and in Vue nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from paint_page import Frame, PaintPage
from PIL import Image

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTH, HEIGHT = 320, 240
OpenPage = Callable[..., PaintPage]


def hard_brush(page: PaintPage) -> float:
    """Full hardness; returns the radius in picture pixels."""
    page.page.get_by_label("Hardness").first.fill("1")
    text = page.page.locator(".pxpo-slider", has_text="Size").locator("output").first.inner_text()
    return float(text.split()[0]) / 2


def capsule(a: tuple[float, float], b: tuple[float, float], radius: float) -> np.ndarray:
    """1 within `radius` of the line a-b, at pixel centres."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    ab = np.subtract(b, a)
    t = np.clip(((x - a[0]) * ab[0] + (y - a[1]) * ab[1]) / max(ab @ ab, 1e-9), 0, 1)
    return np.hypot(x - a[0] - t * ab[0], y - a[1] - t * ab[1]) - radius


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_strokes_reach_python_where_they_were_drawn(
    open_page: OpenPage, pictures: list[str], vue: bool
) -> None:
    """At three zooms of the graph, within one pixel of the picture."""
    page = open_page(vue=vue)
    node = page.build(pictures[:1])
    page.press()
    radius = hard_brush(page)
    strokes = {
        0.6: ((90, 40), (210, 90)),
        1.0: ((60, 200), (150, 130)),
        1.7: ((200, 200), (270, 150)),
    }
    expected = np.full((HEIGHT, WIDTH), np.inf)
    for zoom, (a, b) in strokes.items():
        page.centre(node, zoom)
        page.stroke(page.frame(WIDTH, HEIGHT), a, b)
        expected = np.minimum(expected, capsule(a, b, radius))
    found = page.painted(page.press())
    assert (found[expected < -1] == -255).all(), "a hole in a stroke, or it is elsewhere"
    assert (found[expected > 1] == 0).all(), "paint outside the strokes"


def test_undo_redo_erase_and_copy_to_all(open_page: OpenPage, pictures: list[str]) -> None:
    page = open_page()
    node = page.build(pictures)
    page.press()
    frame = page.frame(WIDTH, HEIGHT)
    nodes = page.page.evaluate("app.graph.nodes.length")
    page.stroke(frame, (60, 60), (120, 60))
    first = page.marks(node)
    page.key("x")
    page.stroke(frame, (60, 160), (200, 160))
    second = page.marks(node)
    assert len(first) == len(second) == 1
    assert first != second
    page.key("Control+z")
    assert page.marks(node) == first
    page.key("Control+z")
    assert page.marks(node) == []
    page.key("Control+y", "Control+Shift+Z")
    assert page.marks(node) == second
    page.page.wait_for_timeout(400)
    assert page.page.evaluate("app.graph.nodes.length") == nodes, "the graph was undone"
    page.stroke(frame, (150, 130), (150, 190), button="right")
    page.key("Control+Shift+V")
    page.saved()
    maps = page.server.base / "input" / "pxpo" / "maps"
    assert len(set(page.marks(node))) == 3, "no picture shares another one's file"
    pixels = {Image.open(maps / f"{name}.png").tobytes() for name in page.marks(node)}
    assert len(pixels) == 1
    found = page.painted(page.press())
    assert found[160, 80] == 255
    assert found[60, 90] == -255
    assert found[160, 150] == 0
    assert "Marks on 3 of 3" in page.message()


def test_reload_and_workflow_files_keep_the_marks(open_page: OpenPage, pictures: list[str]) -> None:
    page = open_page()
    node = page.build(pictures[:2])
    page.press()
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 60), (120, 90))
    page.saved()
    marks = page.marks(node)
    assert len(marks) == 1
    page.page.wait_for_timeout(1500)
    workflow = page.page.evaluate("app.graph.serialize()")
    page.open()
    page.page.wait_for_selector(".pxpo-thumb", timeout=20_000)
    assert page.page.locator(".pxpo-thumb").count() == 2
    assert page.marks(node) == marks
    page.page.evaluate("app.graph.clear()")
    page.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    page.page.wait_for_selector(".pxpo-thumb .pxpo-dislike", timeout=20_000)
    assert page.marks(node) == marks
    found = page.painted(page.press())
    assert found[75, 90] == -255
    assert "Marks on 1 of 2" in page.message()


def test_two_nodes_do_not_share_anything(open_page: OpenPage, pictures: list[str]) -> None:
    page = open_page()
    first = page.build(pictures[:1], at=1040)
    second = page.build(pictures[:1], clear=False, at=3400)
    page.press()
    page.centre(first)
    page.stroke(page.frame(WIDTH, HEIGHT, 0), (60, 60), (120, 60))
    assert len(page.marks(first)) == 1
    assert page.marks(second) == []
    assert page.value(first)["node"] != page.value(second)["node"]
    # A copy keeps the marks and gets an id of its own.
    page.page.evaluate(
        """id => {
            app.canvas.selectItems([app.graph.getNodeById(id)]);
            app.canvas.copyToClipboard();
            app.canvas.pasteFromClipboard();
        }""",
        first,
    )
    page.page.wait_for_timeout(800)
    values = page.page.evaluate(
        """app.graph.nodes.filter(n => n.type === 'PXPO_PaintReward')
            .map(n => n.widgets.find(w => w.name === 'marks').value)"""
    )
    assert len({value["node"] for value in values}) == 3
    assert [len([m for m in v["marks"] if m["map"]]) for v in values] == [1, 0, 1]


def test_other_pictures_start_empty_and_the_marks_come_back(
    open_page: OpenPage, pictures: list[str]
) -> None:
    page = open_page()
    node = page.build(pictures[:1])
    page.press()
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 60), (120, 60))
    marks = page.marks(node)
    choose = """name => {
        const load = app.graph.nodes.find(n => n.type === 'LoadImage');
        load.widgets.find(w => w.name === 'image').value = name;
    }"""
    page.page.evaluate(choose, pictures[1])
    found = page.painted(page.press())
    assert not found.any()
    page.says("Marks kept for the previous batch")
    assert page.page.locator(".pxpo-thumb .pxpo-dislike").count() == 0
    page.page.evaluate(choose, pictures[0])
    found = page.painted(page.press())
    assert found[60, 90] == -255
    assert page.marks(node) == marks
    page.page.wait_for_selector(".pxpo-thumb .pxpo-dislike", timeout=20_000)


def test_a_missing_map_is_no_feedback_and_runs(open_page: OpenPage, pictures: list[str]) -> None:
    page = open_page()
    node = page.build(pictures[:1])
    page.press()
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 60), (120, 60))
    page.saved()
    (name,) = page.marks(node)
    (page.server.base / "input" / "pxpo" / "maps" / f"{name}.png").unlink()
    found = page.painted(page.press())
    assert not found.any()
    page.open()
    page.page.wait_for_selector(".pxpo-thumb", timeout=20_000)
    page.says("No feedback here yet")


def test_the_large_view_paints_and_keeps_the_painting(
    open_page: OpenPage, pictures: list[str]
) -> None:
    page = open_page()
    node = page.build(pictures[:2])
    page.press()
    radius = hard_brush(page)
    page.stage().focus()
    page.key("f")
    assert page.page.locator("dialog[open]").count() == 1
    frame = page.frame(WIDTH, HEIGHT)
    # Zoom in at a point and move there: the picture under the pointer stays.
    page.page.mouse.move(*frame.screen(100, 100))
    page.page.mouse.wheel(0, -600)
    page.page.wait_for_timeout(200)
    factor = 1.0015**600
    x, y = frame.screen(100, 100)
    zoomed = Frame(x - 100 * frame.scale * factor, y - 100 * frame.scale * factor,
                   frame.scale * factor)  # fmt: skip
    page.stroke(zoomed, (90, 95), (120, 110))
    page.key("Escape")
    assert page.page.locator("dialog[open]").count() == 0
    assert len(page.marks(node)) == 1
    found = page.painted(page.press())
    distance = capsule((90, 95), (120, 110), radius)
    assert (found[distance < -1] == -255).all()
    assert (found[distance > 1] == 0).all()


def test_keys_and_labels(open_page: OpenPage, pictures: list[str]) -> None:
    page = open_page()
    page.build(pictures)
    page.press()
    stage = page.stage()
    stage.focus()
    assert stage.get_attribute("aria-label") == "Painting area, picture 1 of 3"
    page.key("ArrowRight")
    assert stage.get_attribute("aria-label") == "Painting area, picture 2 of 3"
    page.key("5", "]", "g")
    assert page.page.get_by_label("Strength").get_attribute("aria-valuetext") == "50 %"
    assert page.page.get_by_label("Fill region (G)").get_attribute("aria-pressed") == "true"
    page.key("?")
    assert page.page.get_by_role("dialog", name="Keys").is_visible()
    page.key("Escape")
    assert not page.page.get_by_role("dialog", name="Keys").is_visible()
    nameless = page.page.evaluate(
        """[...document.querySelectorAll('.pxpo-root button, .pxpo-root input')]
            .filter(e => !(e.ariaLabel || e.textContent.trim() || e.closest('label')))
            .map(e => e.outerHTML)"""
    )
    assert nameless == []


def test_a_picture_that_is_not_there_says_so(open_page: OpenPage, pictures: list[str]) -> None:
    page = open_page()
    held: list[Any] = []
    page.page.route("**/view?*.jpg*", lambda route: held.append(route))
    page.build(pictures[:1])
    page.press()
    hint = page.page.locator(".pxpo-hint:visible")
    try:
        hint.filter(has_text="Loading the picture").wait_for()
        for route in held:
            route.abort()
        hint.filter(has_text="cannot be loaded").wait_for()
    finally:
        page.page.unroute_all(behavior="ignoreErrors")
    page.errors.clear()  # the browser says that a picture was not there
    page.page.reload()
    page.page.locator(".pxpo-stage").first.wait_for()
    hint.wait_for(state="detached")


def test_after_a_click_on_clear_the_keys_undo_the_marks_and_not_the_graph(
    open_page: OpenPage, pictures: list[str]
) -> None:
    page = open_page()
    node = page.build(pictures[:1])
    page.press()
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 60), (120, 60))
    marks = page.marks(node)
    page.page.get_by_label("Clear this picture").click()
    page.page.wait_for_timeout(300)
    assert page.marks(node) == []
    page.key("Control+z")
    page.page.wait_for_timeout(400)
    assert page.marks(node) == marks
    redo = "app.extensionManager.workflow.activeWorkflow.changeTracker.redoQueue.length"
    assert page.page.evaluate(redo) == 0, "the graph was undone"
