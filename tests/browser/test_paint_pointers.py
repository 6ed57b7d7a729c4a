"""Fingers, pens, and pointers that are quicker than the screen."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from paint_page import Frame, PaintPage

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTH, HEIGHT = 320, 240
OpenPage = Callable[..., PaintPage]
Point = tuple[float, float]


class Fingers:
    """Real touches through the browser's debugging protocol."""

    def __init__(self, page: PaintPage) -> None:
        self.page = page.page
        self.session = page.page.context.new_cdp_session(page.page)

    def send(self, kind: str, *points: Point) -> None:
        touches = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self.session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
        self.page.wait_for_timeout(30)

    def drag(self, *paths: tuple[Point, Point], steps: int = 6) -> None:
        """One finger per path, all down and up together."""
        self.send("touchStart", *(start for start, _ in paths))
        for i in range(1, steps + 1):
            t = i / steps
            self.send("touchMove", *((a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t)
                                     for a, b in paths))  # fmt: skip
        self.send("touchEnd")
        self.page.wait_for_timeout(150)


def zoom(page: PaintPage) -> Any:
    return page.page.evaluate("[app.canvas.ds.scale, ...app.canvas.ds.offset]")


def test_one_finger_draws_two_fingers_move_and_zoom(
    open_page: OpenPage, pictures: list[str]
) -> None:
    page = open_page(has_touch=True)
    node = page.build(pictures[:1])
    page.press()
    page.page.get_by_label("Hardness").first.fill("1")
    fingers = Fingers(page)
    frame = page.frame(WIDTH, HEIGHT)
    graph = zoom(page)
    fingers.drag((frame.screen(60, 60), frame.screen(140, 60)))
    (first,) = page.marks(node)
    # Twice as large around (160, 120), then 40 px to the right: nothing is painted by that.
    centre = frame.screen(160, 120)
    x, y = centre
    fingers.drag(((x - 40, y), (x - 80, y)), ((x + 40, y), (x + 80, y)))
    fingers.drag(((x - 40, y), (x, y)), ((x + 40, y), (x + 80, y)))
    assert page.marks(node) == [first]
    assert zoom(page) == graph, "the graph was moved"
    scale = frame.scale * 2
    zoomed = Frame(centre[0] + 40 - 160 * scale, centre[1] - 120 * scale, scale)
    fingers.drag((zoomed.screen(110, 150), zoomed.screen(150, 150)))
    found = page.painted(page.press())
    assert found[60, 100] == -255
    assert found[150, 130] == -255
    across = np.flatnonzero(found[150] == -255)
    radius = np.flatnonzero(found[:, 70] == -255).size / 2
    assert across.min() == pytest.approx(110 - radius, abs=2)
    assert across.max() == pytest.approx(150 + radius, abs=2)


def test_a_second_finger_takes_back_what_the_first_began(
    open_page: OpenPage, pictures: list[str]
) -> None:
    page = open_page(has_touch=True)
    node = page.build(pictures[:1])
    page.press()
    fingers = Fingers(page)
    frame = page.frame(WIDTH, HEIGHT)
    fingers.send("touchStart", frame.screen(100, 100))
    fingers.send("touchMove", frame.screen(120, 100))
    fingers.send("touchStart", frame.screen(120, 100), frame.screen(200, 100))
    fingers.send("touchEnd")
    page.page.wait_for_timeout(200)
    assert page.marks(node) == []
    assert not page.painted(page.press()).any()


def test_a_pen_presses_harder_for_wider_lines(open_page: OpenPage, pictures: list[str]) -> None:
    page = open_page()
    page.build(pictures[:1])
    page.press()
    page.page.get_by_label("Hardness").first.fill("1")
    session = page.page.context.new_cdp_session(page.page)
    frame = page.frame(WIDTH, HEIGHT)

    def pen(row: float, *, force: float) -> None:
        for kind, x in (("mousePressed", 60), ("mouseMoved", 90), ("mouseMoved", 120),
                        ("mouseReleased", 120)):  # fmt: skip
            place = frame.screen(x, row)
            session.send("Input.dispatchMouseEvent", {
                "type": kind, "x": place[0], "y": place[1], "button": "left", "buttons": 1,
                "clickCount": 1, "pointerType": "pen", "force": force,
            })  # fmt: skip
            page.page.wait_for_timeout(30)

    pen(40, force=1.0)
    pen(90, force=0.5)
    pen(140, force=0.01)
    page.page.get_by_label("Pen pressure").click()
    pen(190, force=0.5)
    found = page.painted(page.press())
    widths = [np.count_nonzero(found[y - 22 : y + 22, 90] == -255) for y in (40, 90, 140, 190)]
    assert widths[1] == pytest.approx(widths[0] / 2, abs=1)
    assert 2 <= widths[2] <= 0.2 * widths[0] + 1, "a light touch still draws"
    assert widths[3] == pytest.approx(widths[0], abs=1), "pressure is switched off"


def test_what_the_pointer_did_between_two_frames_is_drawn(
    open_page: OpenPage, pictures: list[str]
) -> None:
    page = open_page()
    page.build(pictures[:1])
    page.press()
    page.page.get_by_label("Hardness").first.fill("1")
    frame = page.frame(WIDTH, HEIGHT)
    page.page.mouse.move(*frame.screen(60, 120))
    page.page.mouse.down()
    # One event with a half circle in it, as a busy page gets it.
    turns = [i / 20 * math.pi for i in range(21)]
    arc = [frame.screen(120 - 60 * math.cos(t), 120 - 60 * math.sin(t)) for t in turns]
    page.page.evaluate(
        """(arc) => {
            const point = ([clientX, clientY]) => (
                new PointerEvent("pointermove", { clientX, clientY, pointerId: 1, buttons: 1 }));
            const last = arc.at(-1);
            document.querySelector(".pxpo-stage").dispatchEvent(new PointerEvent("pointermove", {
                clientX: last[0], clientY: last[1], pointerId: 1, buttons: 1, bubbles: true,
                coalescedEvents: arc.map(point),
            }));
        }""",
        arc,
    )
    page.page.mouse.up()
    page.page.wait_for_timeout(200)
    found = page.painted(page.press())
    assert found[62, 120] == -255, "the way round"
    assert found[120, 120] == 0, "a straight line"
