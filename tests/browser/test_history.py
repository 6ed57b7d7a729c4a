"""The history on PXPO Training Run, in the classic canvas and in Vue nodes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_runs import make_run, overview, publish
from paint_page import PaintPage
from pxpo_dev.server import Server

from pxpo_core.run import RunStore

pytestmark = [pytest.mark.browser, pytest.mark.slow]

ADD = """([name, width]) => {
    app.graph.clear();
    const node = LiteGraph.createNode("PXPO_Run");
    node.pos = [100, 100];
    app.graph.add(node);
    node.setSize([width, node.size[1]]);
    const widget = node.widgets.find((w) => w.name === "run_name");
    widget.value = name;
    widget.callback?.(name);
    return node.id;
}"""
SCROLLED = "document.querySelector('.pxpo-run-list').scrollLeft"
VALUES = "id => app.graph.getNodeById(id).serialize().widgets_values"
OpenPage = Callable[..., PaintPage]


@pytest.fixture
def root(server: Server) -> Path:
    """Where the server's runs are."""
    return server.base / "output" / "pxpo"


class History:
    """The strip on one node of a page."""

    def __init__(self, paint_page: PaintPage, run: str, width: int = 340) -> None:
        self.outer, self.page = paint_page, paint_page.page
        self.node = self.page.evaluate(ADD, [run, width])
        self.outer.centre(self.node, 0.7)  # clear of what the page shows at its edges

    def wait_for(self, rounds: int) -> None:
        """Until that many rounds of the run itself are shown, the start not counted."""
        self.page.wait_for_function(
            """count => document.querySelector('.pxpo-run-list')
                ?.querySelectorAll('.pxpo-run-round').length === count""",
            arg=rounds + 1,
            timeout=30_000,
        )
        self.page.wait_for_timeout(200)

    def round(self, name: str) -> Any:
        return self.page.locator(f".pxpo-run-round[aria-label^='{name}']")

    def chosen(self) -> str:
        return str(self.page.locator(".pxpo-run-round[aria-pressed=true]").get_attribute("title"))

    def says(self, text: str) -> None:
        self.page.wait_for_function(
            "text => document.querySelector('.pxpo-run-message').textContent.includes(text)",
            arg=text,
            timeout=30_000,
        )

    def button(self, name: str) -> Any:
        return self.page.get_by_role("button", name=name)


def screenshot(page: PaintPage, name: str) -> None:
    if os.environ.get("PXPO_SCREENSHOTS"):
        page.page.screenshot(path=f"{os.environ['PXPO_SCREENSHOTS']}/{name}.png")


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_choose_go_back_copy_and_delete(
    open_page: OpenPage, server: Server, root: Path, vue: bool
) -> None:
    make_run(root, "hair", 4, partial=4)
    page = open_page(vue=vue)
    history = History(page, "hair")
    values = page.page.evaluate(VALUES, history.node)
    history.wait_for(4)
    assert history.chosen().startswith("Round 4, the newest")
    assert "stopped early" in history.chosen()
    assert history.button("Go back").count() == 0, "the newest is where the run is"
    pictures = ".pxpo-run-pictures img"
    page.page.wait_for_function(
        "s => [...document.querySelectorAll(s)].filter(i => i.naturalWidth === 96).length === 4",
        arg=pictures,
    )

    # by keys alone
    history.round("Round 4").focus()
    page.key("ArrowLeft", "ArrowLeft")
    assert history.chosen().startswith("Round 2")
    page.key("Home")
    assert history.chosen().startswith("Start")
    page.key("ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft")
    page.key("ArrowLeft")
    assert history.chosen().startswith("Round 2")
    page.page.evaluate("app.canvas.selectItems([app.graph.nodes[0]])")
    page.key("Delete", "Backspace")
    focused = page.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert focused == "solid", "the focus is seen"
    page.key("Tab", "Enter")  # the next stop after the strip

    history.says("went back from round 4 to round 2")
    history.wait_for(2)
    assert [p.name for p in sorted((root / "hair").glob("round_*"))] == ["round_0001", "round_0002"]
    assert history.chosen().startswith("Round 2, the newest")
    screenshot(page, f"history_branch_{vue}")
    history.round("Round 4 of branch 1").click()
    assert history.button("Go back").count() == 0, "a branch is left as it is"

    history.button("Copy as a new run").click()
    name = page.page.get_by_label("Name of the new run")
    assert name.input_value() == "hair b1 r4"
    name.fill("../hair")
    assert history.button("Copy").last.is_disabled()
    name.fill("hair two")
    name.press("Enter")
    history.says("Run hair two is a copy of run hair, round 4")
    assert len(list((root / "hair two").glob("round_*"))) == 4
    assert len(list((root / "hair" / "branches" / "0001").glob("round_*"))) == 2

    trash = history.button("Delete this run")
    trash.click()
    dialog = page.page.get_by_role("dialog", name="Delete run “hair”?")
    assert "with its 2 rounds and 1 branch moves to" in dialog.inner_text()
    assert page.page.evaluate("document.activeElement.textContent") == "Cancel"
    screenshot(page, f"history_delete_{vue}")
    page.key("Escape")
    assert dialog.count() == 0
    assert (root / "hair").exists()
    trash.click()
    page.page.get_by_role("button", name="Delete run", exact=True).click()
    history.says("Run hair was deleted: its 2 rounds are in output/pxpo/.trash/hair-")
    assert not (root / "hair").exists()
    page.page.locator(".pxpo-run-rows").wait_for(state="hidden")
    assert page.page.evaluate(VALUES, history.node) == values, "it is not a widget value"
    assert page.page.evaluate("app.graph.nodes.length") == 1, "no key reached the graph"


def test_the_history_is_there_after_a_reload_and_follows_other_pages(
    open_page: OpenPage, server: Server, root: Path
) -> None:
    make_run(root, "hair", 2)
    page = open_page()
    history = History(page, "hair")
    history.wait_for(2)
    page.page.wait_for_timeout(1500)  # the page keeps its workflow
    page.open()
    history.wait_for(2)
    # Another workflow, or a script, trains the run: the next prompt's end tells.
    make_run(root, "hair", 1)
    inputs = {"run_name": "hair", "round": 3, "token": "other-page-0001"}
    server.client.run({"back": {"class_type": "PXPO_GoBack", "inputs": inputs}})
    page.page.mouse.move(5, 5)
    page.page.wait_for_timeout(5200)
    page.page.locator(".pxpo-run").hover()
    history.wait_for(3)
    # Another name, and back.
    for name, rounds in (("nobody", None), ("hair", 3)):
        page.page.evaluate(
            """([id, name]) => {
                const node = app.graph.getNodeById(id);
                const widget = node.widgets.find((w) => w.name === "run_name");
                widget.value = name;
                widget.callback?.(name);
            }""",
            [history.node, name],
        )
        if rounds is None:
            history.says("will be shown here")
        else:
            history.wait_for(rounds)


def test_a_round_made_again_shows_its_new_picture(
    open_page: OpenPage, server: Server, root: Path
) -> None:
    make_run(root, "hair", 2)
    page = open_page()
    history = History(page, "hair")
    history.wait_for(2)
    source = "document.querySelector(\"[aria-label^='Round 2'] img\").src"
    before = page.page.evaluate(source)
    history.round("Round 1").click()
    history.button("Go back to this round").click()
    history.wait_for(1)
    make_run(root, "hair", 1, size=64)
    history.round("Start").click()
    history.button("Go back to the start").click()
    history.says("from round 2 to round 0")
    RunStore(root).go_back("hair", 0, "again-000001")
    make_run(root, "hair", 2)
    publish(root, "hair")
    page.page.evaluate("app.api.dispatchCustomEvent('reconnected')")
    history.wait_for(2)
    assert page.page.evaluate(source) != before


@pytest.mark.parametrize("vue", [False, True], ids=["classic", "vue"])
def test_sixty_rounds_and_hostile_values(open_page: OpenPage, root: Path, vue: bool) -> None:
    make_run(root, "long", 1)
    shown = overview(root, "long")
    (first,) = shown["history"]  # type: ignore[misc]
    evil = "<img src=x onerror='window.hacked = true'>"
    shown["history"] = [{**first, "round": i + 1} for i in range(60)] + [
        {"round": evil, "reward_mean": evil},
        {"round": 61, "reward_mean": evil, "images": evil, "id": evil},
    ]
    shown["branches"] = [{"branch": evil, "history": evil}]
    (root / "long" / "overview.json").write_text(json.dumps(shown))
    page = open_page(vue=vue)
    history = History(page, "long", width=300)
    history.wait_for(61)
    assert history.chosen().startswith("Round 61")
    box = history.round("Round 61").bounding_box()
    strip = page.page.locator(".pxpo-run-list").first.bounding_box()
    assert box["x"] + box["width"] <= strip["x"] + strip["width"] + 1, "the newest is in sight"
    assert strip["width"] < 400, "a long run does not make the node wide"
    assert page.page.locator(".pxpo-run-round[tabindex='0']").count() == 1
    history.round("Round 61").focus()
    page.page.locator(".pxpo-run-list").first.hover()
    before = page.page.evaluate(SCROLLED)
    page.page.mouse.wheel(0, -500)
    page.page.wait_for_timeout(300)
    assert page.page.evaluate(SCROLLED) == pytest.approx(before - 500, abs=2)
    assert page.page.evaluate("window.hacked") is None
    screenshot(page, f"history_long_{vue}")
    nameless = page.page.evaluate(
        """[...document.querySelectorAll('.pxpo-run button')]
            .filter(e => !(e.ariaLabel || e.textContent.trim())).length"""
    )
    assert nameless == 0


def test_a_run_in_the_queue_is_not_deleted(open_page: OpenPage, root: Path) -> None:
    make_run(root, "hair", 1)
    page = open_page()
    history = History(page, "hair")
    history.wait_for(1)
    waiting = [0, "x", {"2": {"class_type": "PXPO_Run", "inputs": {"run_name": "hair"}}}, {}, []]
    page.page.route(
        "**/api/queue",
        lambda route: route.fulfill(json={"queue_running": [], "queue_pending": [waiting]}),
    )
    history.button("Delete this run").click()
    history.says("A press of Run in the queue trains this run")
    assert page.page.get_by_role("dialog").count() == 0
    assert (root / "hair").exists()
    page.page.unroute("**/api/queue")  # the next test may have this page


def test_an_error_of_reading_goes_when_reading_works_again(open_page: OpenPage, root: Path) -> None:
    make_run(root, "hair", 1)
    page = open_page()
    history = History(page, "hair")
    history.wait_for(1)
    page.page.route("**/view?*overview.json*", lambda route: route.fulfill(status=500))
    again = "app.api.dispatchCustomEvent('reconnected')"
    page.page.evaluate(again)
    history.says("The history could not be read")
    page.page.unroute("**/view?*overview.json*")
    page.page.evaluate(again)
    page.page.wait_for_function(
        "document.querySelector('.pxpo-run-message').textContent === ''", timeout=10_000
    )
    assert history.chosen().startswith("Round 1")
    page.errors.clear()  # the browser says that a file was not there


def test_a_copied_node_leaves_nothing_that_listens(open_page: OpenPage, root: Path) -> None:
    """The host makes a node for the clipboard that is never in a graph, and never removed."""
    make_run(root, "hair", 1)
    page = open_page()
    history = History(page, "hair")
    history.wait_for(1)
    added = page.page.evaluate(
        """async (id) => {
            const { api } = app;
            let listening = 0;
            let asked = 0;
            const fetched = window.fetch;
            window.fetch = (...rest) => {
                if (String(rest[0]).includes("overview.json")) asked += 1;
                return fetched(...rest);
            };
            api.addEventListener = function (...rest) {
                listening += 1;
                return EventTarget.prototype.addEventListener.apply(this, rest);
            };
            app.graph.getNodeById(id).clone();
            await new Promise((resume) => setTimeout(resume, 600));
            delete api.addEventListener;
            window.fetch = fetched;
            return [listening, asked];
        }""",
        history.node,
    )
    assert added == [0, 0]
