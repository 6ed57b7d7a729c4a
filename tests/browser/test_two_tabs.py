"""Two workflows with the same node ids, in two tabs: marks, pictures and rounds never cross."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from host_prompts import rounds
from paint_page import PaintPage, dislike_hair, load
from pxpo_dev.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

OpenPage = Callable[..., PaintPage]
MARKED = ".pxpo-thumb .pxpo-dislike"


@pytest.fixture
def tabs(open_page: OpenPage) -> tuple[PaintPage, PaintPage]:
    """Two pages of one server; what one has seen finished, the other does not wait for."""
    first, second = open_page(), open_page()
    second.seen = first.seen
    return first, second


def by_press_only(page: PaintPage) -> None:
    """No next batch by itself: it would train or draw while the other tab is looked at."""
    page.page.get_by_label("Next batch by itself").uncheck()


def paint(page: PaintPage, pictures: int) -> None:
    """Dislike on that many pictures, all of it on the server."""
    page.page.wait_for_selector(".pxpo-thumb")
    dislike_hair(page, pictures)
    page.page.wait_for_function(
        "([marked, count]) => document.querySelectorAll(marked).length === count",
        arg=[MARKED, pictures],
    )
    page.saved()


def chart(page: PaintPage) -> str:
    return str(page.page.locator("[aria-label^='Reward per round']").get_attribute("aria-label"))


def metrics(folder: Path, number: int) -> dict[str, Any]:
    return dict(json.loads((folder / f"round_{number:04d}" / "metrics.json").read_text("utf-8")))


def test_one_run_in_two_tabs(
    tabs: tuple[PaintPage, PaintPage], server: Server, run_name: str
) -> None:
    first, second = tabs
    folder = server.base / "output" / "pxpo" / run_name
    node = load(first, run_name)
    assert load(second, run_name) == node, "the test wants equal node ids"
    assert first.value(node)["node"] != second.value(node)["node"]
    for page in tabs:
        page.press()
        by_press_only(page)
    assert first.value(node)["batch"] == second.value(node)["batch"], "the same pictures"

    paint(first, 2)
    marks = first.marks(node)
    assert len(marks) == 2
    assert second.marks(node) == []
    assert second.page.locator(MARKED).count() == 0
    first.press()
    assert rounds(folder) == ["round_0001"]
    assert "Round 1:" in chart(first)
    assert "no round yet" in chart(second)

    # The other tab still shows pictures of round 0: its marks are kept, and train nothing.
    paint(second, 1)
    kept = second.marks(node)
    second.press()
    assert rounds(folder) == ["round_0001"]
    second.page.locator(".pxpo-message", has_text="Marks kept for the previous batch").wait_for()
    assert second.marks(node) == kept
    assert first.marks(node) == marks

    paint(second, 1)
    second.press()
    assert rounds(folder) == ["round_0001", "round_0002"]
    assert [metrics(folder, n)["marked_images"] for n in (1, 2)] == [2, 1]
    assert "Round 2:" in chart(second)
    assert "Round 1:" in chart(first)
    first.press()
    assert rounds(folder) == ["round_0001", "round_0002"]
    assert first.value(node)["batch"] != second.value(node)["batch"]


def test_two_runs_in_two_tabs(
    tabs: tuple[PaintPage, PaintPage], server: Server, run_name: str
) -> None:
    """Both presses wait in the queue together."""
    names = [f"{run_name} {letter}" for letter in "ab"]
    folders = [server.base / "output" / "pxpo" / name for name in names]
    nodes = [load(page, name) for page, name in zip(tabs, names, strict=True)]
    assert nodes[0] == nodes[1]
    for number, page in enumerate(tabs):
        sampler = "n => n.type === 'PXPO_DDIMLogProbSampler'"
        seed = "w => w.name === 'seed'"
        page.page.evaluate(
            f"seed => {{ app.graph.nodes.find({sampler}).widgets.find({seed}).value = seed; }}",
            number + 3,
        )
        page.press()
        by_press_only(page)
        paint(page, number + 1)
    for page in tabs:
        page.press(wait=False)
    for page in tabs:
        page.finished()
    for number, (page, folder) in enumerate(zip(tabs, folders, strict=True), start=1):
        assert rounds(folder) == ["round_0001"]
        assert metrics(folder, 1)["marked_images"] == number
        assert len(page.marks(nodes[0])) == number
        assert "Round 1:" in chart(page)
        assert f"{number} of 2 pictures" in chart(page)


def test_a_round_that_ends_behind_another_tab_of_the_page(
    open_page: OpenPage, server: Server, run_name: str
) -> None:
    """The host gives the result to the open workflow's node of that id; ours leaves it alone."""
    page = open_page()
    node = load(page, run_name)
    page.press()
    by_press_only(page)
    paint(page, 2)
    page.press(wait=False)
    while not server.client.get("/queue")["queue_running"]:
        time.sleep(0.02)
    page.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.page.wait_for_timeout(300)
    assert load(page, f"{run_name} other") == node
    page.finished()
    assert rounds(server.base / "output" / "pxpo" / run_name) == ["round_0001"]
    assert "no round yet" in chart(page)
    assert page.marks(node) == []
    assert page.page.locator(".pxpo-thumb").count() == 0


def test_the_next_pictures_are_there_after_a_look_at_another_tab_of_the_page(
    open_page: OpenPage, server: Server, run_name: str
) -> None:
    """The round ends, and the next batch comes, while the node is not there."""
    page = open_page()
    page.reusable = False
    node = load(page, run_name)
    page.press()
    batch = page.value(node)["batch"]
    paint(page, 2)
    page.press(wait=False)
    while not server.client.get("/queue")["queue_running"]:
        time.sleep(0.02)
    page.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.finished()
    page.finished()
    assert rounds(server.base / "output" / "pxpo" / run_name) == ["round_0001"]
    page.open_other_painting()
    page.says("Round 1 has learned from your marks. Here are new pictures.")
    assert page.value(node)["batch"] != batch
    assert page.page.locator(MARKED).count() == 0
    page.page.wait_for_selector(".pxpo-stage:not(.pxpo-locked)")
