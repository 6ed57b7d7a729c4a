"""The chart on PXPO Update LoRA, in the classic canvas and in Vue nodes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from paint_page import PaintPage
from PIL import Image
from pxpo_dev.server import Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ADD = """() => {
    app.graph.clear();
    const node = LiteGraph.createNode("PXPO_UpdateLoRA");
    node.pos = [100, 100];
    app.graph.add(node);
    return node.id;
}"""
EXECUTED = "([id, output]) => app.graph.getNodeById(id).onExecuted(output)"
CHART = "[aria-label^='Reward per round']"


def history(rounds: int) -> list[dict[str, Any]]:
    return [
        {
            "round": i + 1,
            "reward_mean": -0.6 + 0.35 * (1 - 0.8**i) + 0.02 * (-1) ** i,
            "reward_sd": 0.06,
            "marked_area": 0.05 + 0.3 * (i % 4 == 0),
            "images": 8,
            "marked_images": 3,
        }
        for i in range(rounds)
    ]


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_chart_shows_every_round_and_survives_a_reload(
    open_page: Callable[..., PaintPage], vue: bool
) -> None:
    page = open_page(vue=vue)
    node = page.page.evaluate(ADD)
    page.centre(node)
    chart = page.page.locator(CHART)
    assert "no round yet" in chart.get_attribute("aria-label")
    values = page.page.evaluate("id => app.graph.getNodeById(id).serialize().widgets_values", node)

    for rounds in (1, 12):
        output = {"pxpo_update": [{"history": history(rounds)}], "text": ["done"]}
        page.page.evaluate(EXECUTED, [node, output])
        assert f"Round {rounds}:" in chart.get_attribute("aria-label")
        assert chart.locator("circle").count() == rounds + 1  # one is the legend's
    if os.environ.get("PXPO_SCREENSHOTS"):
        page.page.screenshot(path=f"{os.environ['PXPO_SCREENSHOTS']}/chart_{vue}.png")

    box = chart.bounding_box()
    page.page.mouse.move(box["x"] + box["width"] * 0.2, box["y"] + box["height"] / 2)
    assert "Round 12:" not in chart.get_attribute("aria-label")

    saved = page.page.evaluate("() => app.graph.serialize()")
    assert saved["nodes"][0]["widgets_values"] == values, "the chart is not a widget value"
    page.page.evaluate("graph => app.loadGraphData(graph)", saved)
    page.page.wait_for_timeout(800)
    assert "Round 12:" in page.page.locator(CHART).get_attribute("aria-label")
    prompt = page.page.evaluate("async () => (await app.graphToPrompt()).output")
    (inputs,) = [entry["inputs"] for entry in prompt.values()]
    assert len(inputs.pop("pxpo_chart")) == 32, "the prompt says which tab asks"
    assert not [name for name in inputs if "chart" in name]


def effect(server: Server) -> dict[str, Any]:
    """A red picture before and a green one after, as the host's previews."""
    files = {}
    for name, colour in (("before", "#c02020"), ("after", "#20a040")):
        (server.base / "temp").mkdir(exist_ok=True)
        Image.new("RGB", (200, 100), colour).save(server.base / "temp" / f"pxpo_{name}.png")
        files[name] = {"filename": f"pxpo_{name}.png", "subfolder": "", "type": "temp"}
    return {"picture": 3, **files}


def measured(rounds: int) -> list[dict[str, Any]]:
    """Every third round was run without a VAE."""
    return [
        entry | ({} if i % 3 == 1 else {"change_inside": 0.05 + 0.01 * i, "change_outside": 0.02})
        for i, entry in enumerate(history(rounds))
    ]


@pytest.mark.parametrize(
    ("server_name", "vue"),
    [("server", False), ("server", True), ("newest_frontend", False), ("newest_frontend", True)],
    ids=["classic", "vue", "newest classic", "newest vue"],
)
def test_what_a_round_changed_and_the_slider(
    open_page: Callable[..., PaintPage],
    request: pytest.FixtureRequest,
    server_name: str,
    vue: bool,
) -> None:
    server: Server = request.getfixturevalue(server_name)
    page = open_page(at=server, vue=vue)
    node = page.page.evaluate(ADD)
    page.centre(node)
    slider = page.page.get_by_role("slider", name="Picture 3, before and after round 6")
    untouched = page.page.evaluate("id => app.graph.getNodeById(id).size[1]", node)

    def done(rounds: list[dict[str, Any]], shown: dict[str, Any] | None) -> None:
        update = {"history": rounds, "trained": True, "effect": shown, "round": len(rounds)}
        page.page.evaluate(EXECUTED, [node, {"pxpo_update": [update], "text": ["done"]}])
        page.page.wait_for_timeout(500)

    done(history(4), None)
    assert not slider.is_visible()
    done(measured(6), effect(server))
    assert slider.is_visible()
    assert "Change: ● marked 10 %  ○ elsewhere 2.0 %" in (
        page.page.locator(CHART).get_attribute("aria-label")
    )
    assert page.page.evaluate("id => app.graph.getNodeById(id).size[1]", node) > untouched
    page.centre(node, zoom=0.8)  # ComfyUI's own banner lies over the page's lower edge
    if os.environ.get("PXPO_SCREENSHOTS"):
        page.page.screenshot(
            path=f"{os.environ['PXPO_SCREENSHOTS']}/slider_{server_name}_{vue}.png"
        )

    box = slider.bounding_box()
    chart = page.page.locator(CHART).bounding_box()
    assert chart["y"] + chart["height"] <= box["y"] + 1, "the slider covers the chart"
    edges = page.page.evaluate(
        """([x, y]) => {
            const found = document.elementFromPoint(x, y);
            return Boolean(found.closest('[role=slider]'));
        }""",
        [box["x"] + box["width"] / 2, box["y"] + box["height"] - 4],
    )
    assert edges, "something covers the slider"

    def red_share() -> float:
        """How much of the picture's middle row is still the red one."""
        shot = page.page.screenshot(
            clip={**box, "y": box["y"] + box["height"] * 0.48, "height": 2.0}
        )
        row = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))[0].astype(int)
        red = int((row[:, 0] - row[:, 1] > 60).sum())
        green = int((row[:, 1] - row[:, 0] > 60).sum())
        return red / (red + green)

    place = page.page.evaluate("id => [...app.graph.getNodeById(id).pos]", node)
    assert red_share() == pytest.approx(0.5, abs=0.03)
    mouse = page.page.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    mouse.down()
    width = min(box["width"], 2 * box["height"])
    mouse.move(box["x"] + box["width"] / 2 + 0.3 * width, box["y"] + 20, steps=4)
    mouse.up()
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(80, abs=1)
    assert red_share() == pytest.approx(0.8, abs=0.03)
    for _ in range(3):
        page.page.keyboard.press("Shift+ArrowLeft")
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(50, abs=1)
    page.page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext") == "all after"
    assert page.page.evaluate("id => [...app.graph.getNodeById(id).pos]", node) == place

    saved = page.page.evaluate("() => app.graph.serialize()")
    page.page.evaluate("graph => app.loadGraphData(graph)", saved)
    page.page.wait_for_timeout(800)
    assert slider.is_visible(), "kept with the workflow"
    # The host deletes its previews when it starts: then there is nothing to show.
    (server.base / "temp" / "pxpo_after.png").unlink()
    saved["nodes"][0]["properties"]["pxpo_effect"]["after"]["subfolder"] = "gone"
    page.page.evaluate("graph => app.loadGraphData(graph)", saved)
    page.page.wait_for_timeout(800)
    assert not slider.is_visible()
    done(measured(7), None)
    assert not slider.is_visible()
