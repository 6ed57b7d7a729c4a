"""Fixtures of the tests that paint in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from paint_page import ARGUMENTS, PaintPage
from PIL import Image
from pxpo_dev import browser
from pxpo_dev.server import Server

SIZE = (320, 240)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=browser.find(), args=list(ARGUMENTS))
        yield running
        running.close()


@pytest.fixture
def pictures(server: Server) -> list[str]:
    """Names of three pictures in the server's input folder."""
    names = []
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        name = f"paint_test_{i}.png"
        Image.fromarray(pixels).resize(SIZE, Image.Resampling.BICUBIC).save(
            server.base / "input" / name
        )
        names.append(name)
    return names


@pytest.fixture
def open_page(
    chromium: Any, server: Server, request: pytest.FixtureRequest
) -> Iterator[Callable[..., PaintPage]]:
    contexts = []
    pages: list[PaintPage] = []

    def new(*, vue: bool = False) -> PaintPage:
        context = chromium.new_context(viewport={"width": 1700, "height": 1150})
        contexts.append(context)
        page = context.new_page()
        page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
        pages.append(PaintPage(page, server, vue=vue))
        return pages[-1]

    yield new
    errors = [error for page in pages for error in page.errors]
    for context in contexts:
        context.close()
    assert sorted(set(errors)) == []
