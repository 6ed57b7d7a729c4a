"""Fixtures of the tests that paint in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paint_page import ARGUMENTS, PaintPage
from PIL import Image
from pxpo_dev import browser, frontend
from pxpo_dev.server import Server

SIZE = (320, 240)


@pytest.fixture(scope="session")
def playwright() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        yield running


@pytest.fixture(scope="session")
def chromium(playwright: Any) -> Iterator[Any]:
    running = playwright.chromium.launch(executable_path=browser.find(), args=list(ARGUMENTS))
    yield running
    running.close()


@pytest.fixture
def make_pictures() -> Callable[[Path], list[str]]:
    """Puts three pictures into a server's input folder; gives their names."""

    def make(folder: Path) -> list[str]:
        names = []
        for i in range(3):
            pixels = np.random.default_rng(i).integers(0, 255, (6, 8, 3), dtype=np.uint8)
            names.append(f"paint_test_{i}.png")
            picture = Image.fromarray(pixels).resize(SIZE, Image.Resampling.BICUBIC)
            picture.save(folder / names[-1])
        return names

    return make


@pytest.fixture
def pictures(server: Server, make_pictures: Callable[[Path], list[str]]) -> list[str]:
    """Names of three pictures in the server's input folder."""
    return make_pictures(server.base / "input")


class Pages:
    """Open pages of web UIs; one that a test leaves as it was serves the next test too."""

    def __init__(self, chromium: Any) -> None:
        self.chromium = chromium
        self.idle: dict[tuple[str, bool], PaintPage] = {}

    def take(self, server: Server, vue: bool) -> PaintPage:
        page = self.idle.pop((server.address, vue), None)
        if page is not None:
            page.start_over()
            return page
        return self.new(server, vue)

    def new(self, server: Server, vue: bool, elsewhere: bool = False, **options: Any) -> PaintPage:
        context = self.chromium.new_context(viewport={"width": 1700, "height": 1150}, **options)
        page = context.new_page()
        page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
        return PaintPage(page, server, vue=vue, elsewhere=elsewhere)

    def give_back(self, page: PaintPage, passed: bool) -> None:
        key = (page.server.address, page.vue)
        if passed and key not in self.idle and page.is_reusable():
            self.idle[key] = page
        else:
            page.page.context.close()

    def close(self) -> None:
        for page in self.idle.values():
            page.page.context.close()


@pytest.fixture(scope="module")
def pages(chromium: Any) -> Iterator[Pages]:
    """The pages of a file's tests: an open page draws its graph all the time, so not for longer."""
    made = Pages(chromium)
    yield made
    made.close()


@pytest.fixture
def open_page(pages: Pages, server: Server) -> Iterator[Callable[..., PaintPage]]:
    """A page with an empty graph. Options make it a page of its own: elsewhere, as opened on
    another machine, and those of the browser's context."""
    used: list[PaintPage] = []

    def take(*, vue: bool = False, at: Server = server, **options: Any) -> PaintPage:
        used.append(pages.new(at, vue, **options) if options else pages.take(at, vue))
        used[-1].reusable = not options
        return used[-1]

    yield take
    errors = sorted({error for page in used for error in page.errors})
    for page in used:
        pages.give_back(page, passed=not errors)
    assert errors == []


@pytest.fixture(scope="session")
def newest_frontend(start_server: Callable[..., Server]) -> Server:
    """A server with the newest web UI."""
    root = frontend.find()
    if root is None:
        pytest.skip(frontend.MISSING)
    return start_server(root)
