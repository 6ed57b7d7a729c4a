"""Waiting for a person in the middle of a run, with a clock that a test moves."""

from __future__ import annotations

from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from pxpo_core.painting import Marks, PaintFolder, wait_for_answer
from pxpo_core.painting.waiting import SECONDS_ALONE

TOKEN = "ab" * 16


class Scene:
    """What happens while a run waits: answers and pages come and go at chosen times."""

    def __init__(self, answer_at: float = 1e9, pages: tuple[float, float] = (0, 1e9)) -> None:
        self.now = 100.0
        self.answer_at, self.pages = 100.0 + answer_at, pages
        self.calls: list[float] = []
        self.interrupt_at = 1e9

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def check_interrupt(self) -> None:
        if self.now - 100.0 >= self.interrupt_at:
            raise InterruptedError

    def run(self, seconds: float = 600.0, from_a_page: bool = True) -> Any:
        return finish(
            wait_for_answer(
                seconds,
                lambda: Marks("cd" * 16) if self.now >= self.answer_at else None,
                self.calls.append,
                lambda: self.pages[0] <= self.now - 100.0 < self.pages[1],
                from_a_page,
                self.check_interrupt,
                lambda: self.now,
                self.sleep,
            )
        )


def finish(waiting: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that really waits for nothing, without an event loop of its own."""
    try:
        waiting.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")


def test_an_answer_ends_the_wait_within_a_second() -> None:
    scene = Scene(answer_at=33.3)
    assert scene.run().marks == Marks("cd" * 16)
    assert 33.3 <= scene.now - 100.0 < 34.3


def test_pages_are_told_every_two_seconds_how_long_it_takes() -> None:
    scene = Scene(answer_at=10.1)
    scene.run(seconds=60.0)
    assert scene.calls == [60.0, 58.0, 56.0, 54.0, 52.0, 50.0]


def test_an_interrupt_ends_it_within_a_second() -> None:
    scene = Scene()
    scene.interrupt_at = 5.0
    with pytest.raises(InterruptedError):
        scene.run()
    assert scene.now - 100.0 < 6.0


def test_the_time_limit() -> None:
    scene = Scene()
    answer = scene.run(seconds=90.0)
    assert answer.marks is None
    assert answer.why == "Nobody answered in 1.5 minutes"
    assert scene.now - 100.0 == pytest.approx(90.0)


def test_without_any_page_a_run_of_the_api_does_not_wait() -> None:
    scene = Scene(pages=(1e9, 1e9))
    assert scene.run(from_a_page=False).why == "No web page was open to answer"
    assert scene.now == 100.0
    assert scene.calls == []


def test_a_page_that_is_loaded_again_is_waited_for() -> None:
    gone = Scene(pages=(0.0, 10.0))
    assert gone.run().marks is None
    assert gone.now - 100.0 == pytest.approx(10.0 + SECONDS_ALONE, abs=1.0)
    back = Scene(pages=(SECONDS_ALONE - 5.0, 1e9), answer_at=SECONDS_ALONE + 50.0)
    assert back.run().marks is not None


def test_answers_are_files_named_by_the_token(tmp_path: Path) -> None:
    folder = PaintFolder(tmp_path / "pxpo")
    assert folder.read_answer(TOKEN) is None
    path = tmp_path / "pxpo" / "answers" / f"{TOKEN}.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"version": 1, "ma')  # half of it: the upload goes on
    assert folder.read_answer(TOKEN) is None
    path.write_text('{"version": 1}')
    assert folder.read_answer(TOKEN) == {"version": 1}
    folder.forget_answer(TOKEN)
    folder.forget_answer(TOKEN)
    assert not path.exists()
    for name in ("../batch", "x" * 32, ""):
        with pytest.raises(ValueError, match="32 hex digits"):
            folder.read_answer(name)


def test_an_answer_of_any_size_or_kind_is_read_safely(tmp_path: Path) -> None:
    folder = PaintFolder(tmp_path / "pxpo")
    path = tmp_path / "pxpo" / "answers" / f"{TOKEN}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(b" " * (5 * 2**20))
    assert folder.read_answer(TOKEN) == {"version": "too large"}
    for broken in (b"\xff\xfe\x00", b"[" * 200_000):
        path.write_bytes(broken)
        assert folder.read_answer(TOKEN) is None
        (tmp_path / "pxpo" / TOKEN).mkdir(exist_ok=True)
        (tmp_path / "pxpo" / TOKEN / "batch.json").write_bytes(broken)
        assert folder.batches(TOKEN) == []
    path.unlink()
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    path.symlink_to(secret)
    with pytest.raises(ValueError, match="link out of its folder"):
        folder.read_answer(TOKEN)
