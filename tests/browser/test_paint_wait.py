"""A run that waits on the paint node: answered, interrupted, timed out, not for another node."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from host_prompts import rounds
from paint_page import PaintPage, dislike_hair, load
from pxpo_dev.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTH, HEIGHT = 320, 240
ASKED = "The run waits for you"
OpenPage = Callable[..., PaintPage]


def ask(page: PaintPage, pictures: list[str], **widgets: Any) -> int:
    """A graph whose paint node waits, queued; returns the node when the page has been asked."""
    node = page.build(pictures)
    page.set_widget(node, wait="until answered", **widgets)
    page.press(wait=False)
    page.says(ASKED)
    return node


def answers(server: Server) -> list[str]:
    return [path.name for path in (server.base / "input" / "pxpo" / "answers").glob("*")]


def test_answered_after_a_reload(open_page: OpenPage, server: Server, pictures: list[str]) -> None:
    page = open_page()
    node = ask(page, pictures[:2])
    other = page.build(pictures[:1], clear=False, at=3400)
    page.centre(node)
    assert page.page.locator(".pxpo-message", has_text=ASKED).count() == 1, "the other node too"
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 60), (120, 90))
    page.saved()
    page.page.wait_for_timeout(1500)
    page.open()
    page.says(ASKED)
    page.centre(node)
    assert len(page.marks(node)) == 1
    assert page.value(other)["batch"] is None
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 160), (120, 190))
    page.page.get_by_role("button", name="Continue").first.click()
    found = page.painted(page.finished())
    assert found[75, 90] == -255
    assert found[175, 90] == -255
    page.says("Marks on 1 of 2 pictures")
    assert answers(server) == []


def test_interrupted_within_a_second(
    open_page: OpenPage, server: Server, pictures: list[str]
) -> None:
    page = open_page()
    node = ask(page, pictures[:1])
    page.stroke(page.frame(WIDTH, HEIGHT), (60, 60), (120, 90))
    started = time.monotonic()
    server.client.interrupt()
    while server.client.get("/queue")["queue_running"]:
        assert time.monotonic() - started < 10.0
        time.sleep(0.02)
    seconds = time.monotonic() - started
    assert page.finished().status == "interrupted"
    page.says("The run was stopped")
    assert len(page.marks(node)) == 1, "the marks are kept"
    assert page.page.get_by_role("button", name="Continue").count() == 0
    assert answers(server) == []
    assert seconds < 1.0


@pytest.mark.parametrize("no_answer", ["go on", "stop the run"])
def test_nobody_answers(open_page: OpenPage, pictures: list[str], no_answer: str) -> None:
    page = open_page()
    started = time.monotonic()
    ask(page, pictures[:1], wait_minutes=0.06, no_answer=no_answer)
    result = page.finished()
    assert time.monotonic() - started < 20.0
    page.says("Nobody answered in 0.06 minutes")
    if no_answer == "go on":
        assert result.status == "success"
        assert not page.painted(result).any()
        said = [text for out in result.outputs.values() for text in out.get("text", ())]
        assert said == ["Nobody answered in 0.06 minutes: went on. Nothing painted yet."]
    else:
        assert result.status == "interrupted"


def test_a_whole_round_and_the_next_question(
    open_page: OpenPage, server: Server, run_name: str
) -> None:
    """Run, paint, Continue: the same run learns, and the next pictures come with a question."""
    page = open_page()
    node = load(page, run_name)
    page.set_widget(node, wait="until answered")
    folder = server.base / "output" / "pxpo" / run_name
    page.press(wait=False)
    page.says(ASKED, timeout=60.0)
    batch = page.value(node)["batch"]
    dislike_hair(page)
    page.page.get_by_role("button", name="Continue").click()
    page.says("The run goes on with your marks")
    assert page.finished().status == "success"
    assert rounds(folder) == ["round_0001"]
    page.says("Round 1 has learned from your marks. Here are new pictures. The run waits", 60.0)
    assert page.value(node)["batch"] != batch
    assert page.page.locator(".pxpo-thumb .pxpo-dislike").count() == 0
    server.client.interrupt()
    assert page.finished().status == "interrupted"
