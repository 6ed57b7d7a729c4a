"""Everything by keyboard alone, with a visible focus and names for those who cannot see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from paint_page import PaintPage

pytestmark = [pytest.mark.browser, pytest.mark.slow]

OpenPage = Callable[..., PaintPage]

NAME = """const name = (e) => e.getAttribute("aria-label") || e.textContent.trim()
    || e.closest("label")?.textContent || "";"""
CONTROLS = f"""root => {{
    {NAME}
    const all = ["button", "input", "[tabindex]"].map((kind) => `${{root}} ${{kind}}`).join();
    return [...document.querySelectorAll(all)]
        .filter((e) => !e.disabled && e.checkVisibility()).map(name);
}}"""
FOCUSED = f"""() => {{
    {NAME}
    const e = document.activeElement;
    const {{ outlineStyle, outlineWidth }} = getComputedStyle(e);
    return {{
        name: name(e),
        ring: outlineStyle !== "none" && parseFloat(outlineWidth) >= 2,
        inside: Boolean(e.closest(".pxpo-root, .pxpo-dialog")),
    }};
}}"""


def walk(page: PaintPage, key: str, most: int = 60) -> list[Any]:
    """What gets the focus, key by key, until it leaves the widget or comes round."""
    seen: list[Any] = []
    for _ in range(most):
        focused = page.page.evaluate(FOCUSED)
        if not focused["inside"] or focused in seen:
            break
        seen.append(focused)
        page.page.keyboard.press(key)
    return seen


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_the_keyboard_reaches_everything(
    open_page: OpenPage, pictures: list[str], vue: bool
) -> None:
    page = open_page(vue=vue)
    node = page.build(pictures)
    page.press()
    page.stage().focus()
    page.key("Tab")
    there = walk(page, "Tab")
    page.stage().focus()
    back = walk(page, "Shift+Tab")
    reached = {one["name"] for one in there + back}
    controls = page.page.evaluate(CONTROLS, ".pxpo-root")
    assert len(controls) > 20
    assert [name for name in controls if not name] == []
    assert set(controls) - reached == set()
    assert [one["name"] for one in there + back if not one["ring"]] == [], "no visible focus"
    # A whole round of feedback without a pointer.
    page.page.get_by_label("Dislike the whole picture").focus()
    page.key("Enter")
    page.page.get_by_label("Picture 2").focus()
    page.key("Space")
    page.page.get_by_label("Like the whole picture", exact=True).focus()
    page.key("Space")
    assert len(page.marks(node)) == 2
    assert page.page.get_by_label("Picture 1: disliked in places").count() == 1
    assert page.page.get_by_label("Picture 2: liked in places").count() == 1
    # The large view keeps the focus inside, and gives it back.
    page.stage().focus()
    page.key("f")
    for _ in range(40):
        page.page.keyboard.press("Tab")
        inside = page.page.evaluate("Boolean(document.activeElement.closest('.pxpo-dialog, body'))")
        assert inside
    page.key("Escape")
    assert page.page.evaluate("document.activeElement.className").startswith("pxpo-stage")


def test_keys_of_the_widget_do_nothing_to_the_graph(
    open_page: OpenPage, pictures: list[str]
) -> None:
    page = open_page()
    node = page.build(pictures[:2])
    page.press()
    page.page.evaluate("id => app.canvas.selectNode(app.graph.getNodeById(id))", node)
    nodes = page.page.evaluate("app.graph.nodes.length")
    page.stroke(page.frame(320, 240), (60, 60), (120, 90))
    view = page.page.evaluate("[app.canvas.ds.scale, ...app.canvas.ds.offset]")
    page.key(
        "Control+c", "ArrowRight", "Control+v", "Delete", "Backspace", "Control+z", "Control+y"
    )
    page.key("Control+z", "Control+z", "Control+z", "Space", "Home", "+", "-", "i", "h", "h")
    page.page.wait_for_timeout(600)
    assert page.page.evaluate("app.graph.nodes.length") == nodes
    assert page.page.evaluate("[app.canvas.ds.scale, ...app.canvas.ds.offset]") == view
    assert page.page.evaluate("id => app.graph.getNodeById(id).mode", node) == 0
