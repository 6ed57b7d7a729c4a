"""The chart on PXPO Update LoRA, in the classic canvas and in Vue nodes."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from paint_page import PaintPage

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
    assert not [name for name in inputs if "chart" in name]
