"""Press, paint, press on the portrait model: one round, and the next pictures by themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from host_prompts import rounds
from paint_page import PaintPage, dislike_hair, load
from pxpo_dev.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

OpenPage = Callable[..., PaintPage]


def texts(result: Any, key: str = "text") -> list[Any]:
    return [entry for out in result.outputs.values() for entry in out.get(key, ())]


def test_press_paint_press(open_page: OpenPage, server: Server, run_name: str) -> None:
    page = open_page(elsewhere=True)
    assert not page.page.evaluate("isSecureContext")
    node = load(page, run_name)
    folder = server.base / "output" / "pxpo" / run_name
    first = page.press()
    assert any("Nothing painted yet" in text for text in texts(first))
    assert rounds(folder) == []
    batch = page.value(node)["batch"]
    dislike_hair(page)
    # Something else in between: the host forgets the sampled batch, the sampler does not.
    other = {"1": {"class_type": "EmptyImage", "inputs": {
        "width": 64, "height": 64, "batch_size": 1, "color": 0}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}  # fmt: skip
    page.seen.add(server.client.run(other).prompt_id)
    trained = page.press()
    assert rounds(folder) == ["round_0001"]
    assert any("Marks on 2 of 2 pictures" in text for text in texts(trained))
    following = page.finished()
    assert rounds(folder) == ["round_0001"]
    assert any("Nothing painted yet" in text for text in texts(following))
    page.page.wait_for_selector(".pxpo-stage:not(.pxpo-locked)")
    page.says("Round 1 has learned from your marks")
    assert page.value(node)["batch"] != batch
    assert page.page.locator(".pxpo-thumb .pxpo-dislike").count() == 0
    # Another round, without the next batch by itself.
    page.page.get_by_label("Next batch by itself").uncheck()
    dislike_hair(page)
    page.press()
    assert rounds(folder) == ["round_0001", "round_0002"]
    page.says("Press Run for new pictures")
    assert set(server.client.get("/history")) <= page.seen
    queue = server.client.get("/queue")
    assert not queue["queue_running"]
    assert not queue["queue_pending"]


def test_a_mask_is_corrected_before_it_counts(
    open_page: OpenPage, server: Server, run_name: str
) -> None:
    page = open_page()
    node = load(page, run_name)
    page.page.evaluate(
        """id => {
            const paint = app.graph.getNodeById(id);
            const mask = LiteGraph.createNode("SolidMask");
            app.graph.add(mask);
            mask.connect(0, paint, paint.inputs.findIndex((input) => input.name === "mask"));
        }""",
        node,
    )
    folder = server.base / "output" / "pxpo" / run_name
    first = page.press()
    assert any("Correct it, and press Run again" in text for text in texts(first))
    assert rounds(folder) == []
    page.page.wait_for_selector(".pxpo-thumb .pxpo-like")
    page.page.get_by_label("Next batch by itself").uncheck()
    dislike_hair(page, pictures=1)
    page.press()
    assert rounds(folder) == ["round_0001"]
    page.says("Press Run for new pictures")
    metrics = json.loads((folder / "round_0001" / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["marked_images"] == 2
    assert 0.0 < metrics["reward_mean"] < 1.0, "liked everywhere, but for the stroke"


def test_strokes_wait_for_release_when_the_host_runs_by_itself(
    open_page: OpenPage, pictures: list[str]
) -> None:
    page = open_page()
    node = page.build(pictures[:1])
    page.press()
    page.page.evaluate("app.extensionManager.queueSettings.mode = 'instant'")
    page.stroke(page.frame(320, 240), (60, 60), (120, 60))
    assert "do not count yet" in page.message()
    prompt = page.page.evaluate("app.graphToPrompt()")
    assert prompt["output"][str(node)]["inputs"]["marks"]["marks"] == []
    page.page.get_by_role("button", name="Use these marks").click()
    prompt = page.page.evaluate("app.graphToPrompt()")
    assert len(prompt["output"][str(node)]["inputs"]["marks"]["marks"]) == 1
    assert page.page.get_by_role("button", name="Use these marks").count() == 0
    page.page.evaluate("app.extensionManager.queueSettings.mode = 'disabled'")


def test_on_change_learns_once_from_marks_that_were_released(
    open_page: OpenPage, server: Server, run_name: str
) -> None:
    """Every stroke makes the host run the workflow; only "Use these marks" makes it learn."""
    page = open_page()
    node = load(page, run_name)
    folder = server.base / "output" / "pxpo" / run_name
    page.press()
    page.page.evaluate("app.extensionManager.queueSettings.mode = 'change'")
    batch = page.value(node)["batch"]
    dislike_hair(page)
    idle(page)
    assert rounds(folder) == []
    assert page.value(node)["batch"] == batch
    page.page.get_by_role("button", name="Use these marks").click()
    page.says("Round 1 has learned from your marks. Here are new pictures.", timeout=90.0)
    idle(page)
    assert rounds(folder) == ["round_0001"], "it went on by itself"
    assert page.value(node)["batch"] != batch
    page.page.evaluate("app.extensionManager.queueSettings.mode = 'disabled'")


def idle(page: PaintPage) -> None:
    """Wait until the server has had nothing to do for two seconds."""
    quiet = time.monotonic()
    deadline = quiet + 120.0
    while time.monotonic() - quiet < 2.0:
        queue = page.server.client.get("/queue")
        if queue["queue_running"] or queue["queue_pending"]:
            quiet = time.monotonic()
        assert time.monotonic() < deadline, "the page keeps asking for runs"
        page.page.wait_for_timeout(100)
    page.seen = set(page.server.client.get("/history"))


def test_two_workflow_tabs_with_the_same_node_ids(
    open_page: OpenPage, server: Server, pictures: list[str]
) -> None:
    page = open_page()
    first = page.build(pictures[:1])
    page.press()
    page.stroke(page.frame(320, 240), (60, 60), (120, 60))
    page.saved()
    value = page.value(first)
    page.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    page.page.wait_for_timeout(1500)
    second = page.build(pictures[1:2])
    assert second == first, "the test wants equal node ids"
    assert page.value(second)["node"] != value["node"]
    page.press()
    assert page.marks(second) == []
    page.open_other_painting()
    page.page.wait_for_selector(".pxpo-thumb .pxpo-dislike", timeout=20_000)
    assert page.value(first) == value


def test_in_a_subgraph(open_page: OpenPage, pictures: list[str]) -> None:
    page = open_page()
    node = page.build(pictures[:1])
    page.press()
    page.stroke(page.frame(320, 240), (60, 60), (120, 60))
    page.saved()
    marks = page.marks(node)
    page.page.evaluate(
        """id => {
            const node = app.graph.getNodeById(id);
            const { subgraph } = app.graph.convertToSubgraph(new Set([node]));
            app.canvas.setGraph(subgraph);
        }""",
        node,
    )
    page.page.wait_for_timeout(1500)
    inside = page.page.evaluate(
        """() => {
            const inner = [...app.graph.subgraphs.values()][0].nodes;
            const paint = inner.find((n) => n.type === 'PXPO_PaintReward');
            return paint.widgets.find((w) => w.name === 'marks').value;
        }"""
    )
    assert [mark["map"] for mark in inside["marks"]] == marks
    found = page.painted(page.press())
    assert found[60, 90] == -255
    time.sleep(0.5)
    page.page.wait_for_selector(".pxpo-thumb .pxpo-dislike", timeout=10_000)
