"""The example workflow in the real web UI, in a real browser, by the real Run button."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from host_prompts import rounds
from pxpo_dev.comfyui import PACK
from pxpo_dev.paths import EXAMPLE_WORKFLOW
from pxpo_dev.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

READY = "window.app && app.graph && app.extensionManager && app.graph.nodes.length > 0"
# Two rounds of the example as it is take two minutes.
FEWER_PICTURES = """for (const node of app.graph.nodes) {
    if (node.type === "EmptyLatentImage") node.widgets.find(w => w.name === "batch_size").value = 4;
}"""
# Said by ComfyUI's own page on this server, with or without this pack.
EXPECTED_ERRORS = (
    "404 (Not Found)",
    "api.comfy.org",
    "Error loading core workflow templates",
    "(reading 'id')",
)


class Page:
    """A page of the web UI, and what went wrong in it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda error: self.note(str(error)))
        page.on("console", lambda said: said.type == "error" and self.note(said.text))

    def note(self, error: str) -> None:
        if not any(expected in error for expected in EXPECTED_ERRORS):
            self.errors.append(error)

    def open_example(self, server: Server) -> None:
        """Open the address that scripts/demo.py prints."""
        self.page.goto(f"{server.address}/?template={EXAMPLE_WORKFLOW.stem}&source={PACK}")
        self.page.wait_for_function(
            f"{READY} && app.graph.nodes.some(node => node.type === 'PXPO_UpdateLoRA')",
            timeout=60_000,
        )

    def nodes(self) -> list[dict[str, Any]]:
        """Every node with its widget values by name."""
        script = """app.graph.nodes.map(node => ({
            id: node.id, type: node.type, error: Boolean(node.has_errors),
            known: node.type in LiteGraph.registered_node_types,
            widgets: Object.fromEntries((node.widgets ?? []).map(w => [w.name, w.value])),
            box: [...node.pos, ...node.size], collapsed: Boolean(node.flags.collapsed),
        }))"""
        return list(self.page.evaluate(script))

    def shoot(self, name: str) -> None:
        """Keep a screenshot if PXPO_SCREENSHOTS names a folder."""
        folder = os.environ.get("PXPO_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=str(Path(folder) / f"{name}.png"))


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[[], Page]]:
    contexts = []

    def new() -> Page:
        context = chromium.new_context(viewport={"width": 1900, "height": 1000})
        contexts.append(context)
        page = context.new_page()
        page.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
        return Page(page)

    yield new
    for context in contexts:
        context.close()


def test_example_loads_whole(server: Server, open_page: Callable[[], Page]) -> None:
    """No missing node, no node in red, every widget with the value of the file, no overlaps."""
    page = open_page()
    page.open_example(server)
    page.page.wait_for_timeout(1000)
    page.shoot("example")
    nodes = page.nodes()
    assert [node["type"] for node in nodes if not node["known"]] == []
    assert [node["type"] for node in nodes if node["error"]] == []
    assert page.page.locator(".p-dialog").count() == 0, "a dialog covers the workflow"
    by_type = {node["type"]: node["widgets"] for node in nodes}
    run = {name: by_type["PXPO_Run"][name] for name in ("run_name", "r", "target_modules")}
    assert run == {"run_name": "less_blue", "r": 8, "target_modules": "all layers"}
    assert by_type["PXPO_Run"]["start_from"] == "none"
    assert by_type["PXPO_PixelReward"]["channel"] == "blue"
    assert by_type["PXPO_PixelReward"]["normalise"] == "none"
    assert by_type["PXPO_DDIMLogProbSampler"]["steps"] == 16
    update = by_type["PXPO_UpdateLoRA"]
    assert (update["train_steps"], update["steps_per_rollout"]) == (0, 0)
    assert update["step_weighting"] == "denoised"
    assert (update["keep_last"], update["stepwise"]) == (20, True)
    assert update["objective"] == "automatic"
    boxes = [node for node in nodes if not node["collapsed"]]
    for index, one in enumerate(boxes):
        for other in boxes[index + 1 :]:
            assert not overlap(one["box"], other["box"]), (one["type"], other["type"])
    assert page.errors == []


def overlap(one: list[float], other: list[float]) -> bool:
    """Whether two nodes cover each other, titles (30 above the position) included."""
    return (
        one[0] < other[0] + other[2]
        and other[0] < one[0] + one[2]
        and one[1] - 30 < other[1] + other[3]
        and other[1] - 30 < one[1] + one[3]
    )


def test_every_press_of_run_is_a_round(server: Server, open_page: Callable[[], Page]) -> None:
    page = open_page()
    page.open_example(server)
    page.page.wait_for_timeout(500)
    page.page.evaluate(FEWER_PICTURES)
    folder = server.base / "output" / "pxpo" / "less_blue"
    seen: set[str] = set(server.client.get("/history"))
    for number in (1, 2):
        page.page.get_by_test_id("queue-button").click()
        prompt_id = new_prompt(server, seen)
        result = server.client.wait(prompt_id, timeout=240)
        assert result.status == "success", result.error
        assert rounds(folder) == [f"round_{n:04d}" for n in range(1, number + 1)]
    page.page.wait_for_timeout(1500)
    page.shoot("after_two_presses")
    assert [node["type"] for node in page.nodes() if node["error"]] == []
    assert page.page.evaluate("app.lastExecutionError ?? null") is None
    shown = page.page.evaluate(
        "app.graph.nodes.filter(node => app.nodeOutputs[node.id]?.images?.length)"
        ".map(node => node.type).sort()"
    )
    assert shown == ["PXPO_PixelReward", "PreviewImage", "PreviewImage", "PreviewImage"]
    assert page.errors == []


def new_prompt(server: Server, seen: set[str], timeout: float = 240.0) -> str:
    """The id of the prompt that the page has queued, once it is finished."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        new = set(server.client.get("/history")) - seen
        if new:
            seen |= new
            return new.pop()
        time.sleep(0.2)
    raise TimeoutError("The page queued nothing that finished.")
