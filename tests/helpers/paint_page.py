"""A page of the web UI with paint nodes in it, driven by real pointer and key events."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from pxpo_dev.paths import REPO
from pxpo_dev.server import Server

WORKFLOW = REPO / "example_workflows" / "PXPO_Paint.json"

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP elsewhere.test 127.0.0.1",
)
ELSEWHERE = "elsewhere.test"
"""The server's name as from another machine: plain http, where pages have fewer rights."""
# Thrown by ComfyUI's own page on this server, with or without this pack.
EXPECTED_ERRORS = ("(reading 'id')",)
BUILD = """({pictures, at}) => {
    const make = (type, x, y) => {
        const node = LiteGraph.createNode(type);
        node.pos = [x, y];
        app.graph.add(node);
        return node;
    };
    let last = null;
    pictures.forEach((name, i) => {
        const load = make("LoadImage", at - 1000, 60 + i * 400);
        load.widgets.find((w) => w.name === "image").value = name;
        if (last) {
            const batch = make("ImageBatch", at - 600, 60 + i * 150);
            last.connect(0, batch, 0);
            load.connect(0, batch, 1);
            last = batch;
        } else last = load;
    });
    const paint = make("PXPO_PaintReward", at, 60);
    last.connect(0, paint, 0);
    ["like", "dislike"].forEach((name, i) => {
        const mask = make("MaskToImage", at + 560, 60 + i * 400);
        paint.connect(i + 1, mask, 0);
        const show = make("PreviewImage", at + 800, 60 + i * 400);
        mask.connect(0, show, 0);
    });
    return paint.id;
}"""


@dataclass
class Frame:
    """Where the picture lies on the screen: picture = (screen - left, top) / scale."""

    left: float
    top: float
    scale: float

    def screen(self, x: float, y: float) -> tuple[float, float]:
        return self.left + x * self.scale, self.top + y * self.scale


class PaintPage:
    def __init__(
        self, page: Any, server: Server, *, vue: bool = False, elsewhere: bool = False
    ) -> None:
        self.page, self.server, self.vue = page, server, vue
        self.address = server.address
        if elsewhere:
            self.address = self.address.replace("127.0.0.1", ELSEWHERE)
        self.reusable = True
        self.errors: list[str] = []
        self.seen = set(server.client.get("/history"))
        page.on("pageerror", lambda error: self.note(str(error)))
        # The host's pages complain of many things; only what this pack's files say is ours.
        page.on("console", lambda said: self.note(said.text) if _is_ours(said) else None)
        self.open()

    def is_reusable(self) -> bool:
        """Whether the next test may have this page: a single workflow is open and nothing runs."""
        if not self.reusable:
            return False
        queue = self.server.client.get("/queue")
        if queue["queue_running"] or queue["queue_pending"]:
            return False
        opened = "app.extensionManager.workflow.openWorkflows.length"
        return bool(
            self.page.evaluate(f"{opened} === 1 && !document.querySelector('dialog[open]')")
        )

    def start_over(self) -> None:
        """As a new page: an empty graph, no error, and nothing of earlier runs counts."""
        self.errors.clear()
        self.seen = set(self.server.client.get("/history"))
        self.page.evaluate(
            """() => {
                app.extensionManager.queueSettings.mode = "disabled";
                app.canvas.setGraph(app.graph.rootGraph ?? app.graph);
                app.graph.clear();
                app.canvas.ds.reset();
            }"""
        )
        self.page.wait_for_timeout(200)

    def note(self, error: str) -> None:
        if not any(expected in error for expected in EXPECTED_ERRORS):
            self.errors.append(error)

    def open(self) -> None:
        """Load the page, or load it again."""
        self.page.goto(self.address, timeout=120_000)
        self.page.wait_for_function(
            "Boolean(window.app && app.graph && app.extensionManager "
            "&& LiteGraph.registered_node_types.PXPO_PaintReward)",
            timeout=120_000,
        )
        # Kept by the server for all its pages, so another page may have changed it.
        self.page.evaluate(
            "on => app.extensionManager.setting.set('Comfy.VueNodes.Enabled', on)", self.vue
        )
        self.page.wait_for_timeout(900)

    def build(self, pictures: Sequence[str], *, clear: bool = True, at: int = 1040) -> int:
        """Load Image(s) -> Paint -> two masks as pictures. Returns the paint node's id."""
        if clear:
            self.page.evaluate("app.graph.clear()")
        node = self.page.evaluate(BUILD, {"pictures": list(pictures), "at": at})
        self.centre(node)
        return int(node)

    def open_other_painting(self) -> None:
        """Go to the other open workflow that has a paint node, as a click on its tab does."""
        self.page.evaluate(
            """() => {
                const { workflow } = app.extensionManager;
                const paints = (w) => w.changeTracker?.activeState?.nodes
                    ?.some((n) => n.type === "PXPO_PaintReward");
                const other = workflow.openWorkflows
                    .find((w) => w !== workflow.activeWorkflow && paints(w));
                return app.loadGraphData(other.changeTracker.activeState, true, true, other);
            }"""
        )

    def centre(self, node: int, zoom: float = 1.0) -> None:
        self.page.evaluate(
            """([id, zoom]) => {
                app.canvas.ds.scale = zoom;
                app.canvas.centerOnNode(app.graph.getNodeById(id));
                app.canvas.ds.scale = zoom;
                app.canvas.setDirty(true, true);
            }""",
            [node, zoom],
        )
        self.page.wait_for_timeout(500)

    def press(self, wait: bool = True) -> Any:
        """Queue the open workflow as the Run button does, and wait for its end."""
        self.page.evaluate("app.queuePrompt(0, 1)")
        return self.finished() if wait else None

    def finished(self, timeout: float = 120.0) -> Any:
        """The next prompt that ends."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            new = set(self.server.client.get("/history")) - self.seen
            if new:
                prompt = new.pop()
                self.seen.add(prompt)
                result = self.server.client.wait(prompt)
                self.page.wait_for_timeout(500)
                return result
            self.page.wait_for_timeout(100)
        raise TimeoutError("The page queued nothing that finished.")

    def painted(self, result: Any) -> np.ndarray:
        """The signed map of the first picture that reached Python, in -255..255."""
        outputs = [(node, out) for node, out in result.outputs.items() if "images" in out]
        shown = [out["images"] for _, out in sorted(outputs, key=lambda item: int(item[0]))]
        pictures = [
            np.asarray(Image.open(io.BytesIO(self.server.client.picture(images[0]))).convert("L"))
            for images in shown
        ]
        like, dislike = pictures
        return like.astype(int) - dislike.astype(int)

    def stage(self, index: int = 0) -> Any:
        return self.page.locator(".pxpo-stage").nth(index)

    def frame(self, width: int, height: int, index: int = 0) -> Frame:
        """Where a picture of that size is shown, from the box of the painting area alone."""
        box = self.stage(index).bounding_box()
        scale = min(box["width"] / width, box["height"] / height)
        return Frame(
            box["x"] + (box["width"] - width * scale) / 2,
            box["y"] + (box["height"] - height * scale) / 2,
            scale,
        )

    def stroke(self, frame: Frame, *points: tuple[float, float], button: str = "left") -> None:
        """A stroke through points in picture pixels."""
        mouse = self.page.mouse
        mouse.move(*frame.screen(*points[0]))
        mouse.down(button=button)
        for point in points[1:]:
            mouse.move(*frame.screen(*point), steps=6)
        mouse.up(button=button)
        self.page.wait_for_timeout(150)

    def key(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(60)

    def value(self, node: int) -> Any:
        """The widget's value."""
        return self.page.evaluate(
            "id => app.graph.getNodeById(id).widgets.find(w => w.name === 'marks').value", node
        )

    def marks(self, node: int) -> list[Any]:
        return [mark["map"] for mark in self.value(node)["marks"] if mark["map"]]

    def message(self, index: int = 0) -> str:
        return str(self.page.locator(".pxpo-message").nth(index).inner_text())

    def set_widget(self, node: int, **values: Any) -> None:
        """Set ordinary widgets of a node."""
        self.page.evaluate(
            """([id, values]) => {
                const { widgets } = app.graph.getNodeById(id);
                for (const [name, value] of Object.entries(values)) {
                    widgets.find((w) => w.name === name).value = value;
                }
            }""",
            [node, values],
        )

    def says(self, text: str, timeout: float = 20.0) -> None:
        """Wait until the line below a painting area contains `text`."""
        self.page.locator(".pxpo-message", has_text=text).first.wait_for(timeout=timeout * 1000)

    def saved(self) -> None:
        """Wait until every stroke is on the server."""
        self.page.wait_for_function(
            "![...document.querySelectorAll('.pxpo-message')]"
            ".some(e => e.textContent.includes('saving'))"
        )


def load(page: PaintPage, run: str, pictures: int = 2, steps: int = 4) -> int:
    """The example workflow, made small; returns the paint node's id."""
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    by_type = {node["type"]: node for node in workflow["nodes"]}
    by_type["PXPO_Run"]["widgets_values"][0] = run
    by_type["EmptyLatentImage"]["widgets_values"][2] = pictures
    by_type["PXPO_DDIMLogProbSampler"]["widgets_values"][1] = steps
    by_type["PXPO_UpdateLoRA"]["widgets_values"][1] = 2
    page.page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    page.page.wait_for_timeout(800)
    node = int(by_type["PXPO_PaintReward"]["id"])
    page.centre(node)
    return node


def dislike_hair(page: PaintPage, pictures: int = 2) -> None:
    """Fill from the top of the head, on every picture."""
    page.stage().focus()
    page.key("g")
    for number in range(pictures):
        chip = page.page.locator(".pxpo-thumb").nth(number).locator(".pxpo-dislike")
        deadline = time.monotonic() + 20.0
        while not chip.count():  # nothing to fill before the picture has come
            assert time.monotonic() < deadline, f"picture {number + 1} takes no fill"
            box = page.stage().bounding_box()
            page.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] * 0.2)
            page.page.wait_for_timeout(150)
        if number < pictures - 1:
            page.key("ArrowRight")
    page.saved()


def _is_ours(said: Any) -> bool:
    """Whether a console message is an error of this pack's scripts."""
    place = said.location.get("url", "")
    return said.type == "error" and "/extensions/pxpo/" in f"{place} {said.text}"
