"""The whole loop by hand on Toy Faces: paint dislike on the hair of four pictures, Run, again.

    python3 scripts/bench.py paint_loop --rounds 6

Opens the example workflow PXPO_Paint with its own settings in the real web UI in a headless
Chromium, and works it with real pointer and key events alone: the Dislike button, strokes over the
hair that is visible (found by the demo's segmenter in place of an eye), the arrow key to the next
picture, the Run button. The next four pictures come by themselves.

hair: share of a picture that is hair, by the segmenter. change_inside, change_outside: mean
absolute change of the same noise, where the person painted (held-out seeds: where hair was) and
more than 16 pixels away from it. With --pictures the screenshots and the film of README.md are made
as well.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import torch
from paint_page import ARGUMENTS, PaintPage
from painter.figures import compare, grid, sample, stacked, to_tensor
from painter.film import Film
from painter.hand import strokes
from PIL import Image
from playwright.sync_api import sync_playwright
from pxpo_dev import browser
from pxpo_dev.comfyui import base_directory, commit, read
from pxpo_dev.environment import Environment
from pxpo_dev.paths import HOME, REPO
from pxpo_dev.server import Server
from pxpo_dev.workflow import find, load, to_api

from demo.toy_faces.segmenter import Segmenter, load_segmenter, part_mask

WORKFLOW = REPO / "example_workflows" / "PXPO_Paint.json"
RESULT = REPO / "benchmarks" / "results" / "paint_loop.json"
VIEW = {"width": 1100, "height": 1160}
CORNER = (1090, 330)  # of the paint node in the workflow
BRUSH = 26  # pixels of the picture
HELD_OUT_SEED = 1_000_003
LIMIT = 900.0


class Person:
    """Works the page."""

    def __init__(self, page: PaintPage, server: Server, segmenter: Segmenter, node: int) -> None:
        self.page, self.server, self.segmenter, self.node = page, server, segmenter, node
        self.film: Film | None = None

    def shoot(self, milliseconds: int) -> None:
        if self.film is not None:
            self.film.shoot(milliseconds)

    def press_run(self) -> Any:
        """The real button; returns what ran."""
        self.page.page.get_by_test_id("queue-button").click()
        return self.page.finished(LIMIT)

    def shown(self) -> list[Image.Image]:
        """The pictures in the node, in order."""
        folder = self.server.base / "input" / "pxpo" / self.page.value(self.node)["node"]
        batch = json.loads((folder / "batch.json").read_text("utf-8"))["batches"][0]
        return [
            Image.open(folder / f"{image['picture']}.jpg").convert("RGB")
            for image in batch["images"]
        ]

    def dislike_hair(self, slowly: bool) -> list[np.ndarray]:
        """Paint on every picture; returns what was painted, bool [H, W]."""
        page = self.page
        pictures = self.shown()
        masks = part_mask(self.segmenter, torch.stack([to_tensor(p) for p in pictures])).bool()
        page.page.get_by_role("button", name="Dislike", exact=True).click()
        page.page.locator(".pxpo-thumb").first.click()
        page.stage().focus()
        self.set_brush()
        for number, mask in enumerate(masks):
            frame = page.frame(*pictures[number].size)
            for count, stroke in enumerate(strokes(mask.numpy(), BRUSH / 2)):
                self.draw(frame, stroke)
                if slowly and number == 0 and count % 2 == 0:
                    self.shoot(160)
            self.shoot(700 if slowly else 350)
            if number < len(pictures) - 1:
                page.key("ArrowRight")
                page.page.wait_for_timeout(150)
        page.saved()
        return self.painted(len(pictures), pictures[0].size)

    def set_brush(self) -> None:
        """The brush's diameter, by its keys."""
        size = self.page.page.get_by_label("Size", exact=True)
        for _ in range(60):
            pixels = int(size.get_attribute("aria-valuetext").split()[0])
            if abs(pixels - BRUSH) <= 3:
                return
            self.page.key("[" if pixels > BRUSH else "]")

    def draw(self, frame: Any, stroke: list[tuple[float, float]]) -> None:
        mouse = self.page.page.mouse
        mouse.move(*frame.screen(*stroke[0]))
        mouse.down()
        mouse.move(*frame.screen(*stroke[-1]), steps=5)
        mouse.up()
        self.page.page.wait_for_timeout(40)

    def painted(self, count: int, size: tuple[int, int]) -> list[np.ndarray]:
        """The maps on the server of the pictures that are shown, in their order."""
        value = self.page.value(self.node)
        folder = self.server.base / "input" / "pxpo"
        batch = json.loads((folder / value["node"] / "batch.json").read_text("utf-8"))["batches"][0]
        maps = {mark["thumb"]: mark["map"] for mark in value["marks"]}
        found = []
        for image in batch["images"][:count]:
            name = maps.get(image["thumb"])
            grey = np.full(size[::-1], 128, np.uint8)
            if name:
                grey = np.asarray(Image.open(folder / "maps" / f"{name}.png").convert("L"))
            found.append(grey != 128)
        return found


def open_workflow(page: PaintPage, workflow: dict[str, Any]) -> None:
    """Load it, and bring both of its nodes that people look at into view."""
    page.page.evaluate(
        "workflow => app.loadGraphData(workflow, true, true, 'PXPO_Paint')", workflow
    )
    page.page.wait_for_timeout(1500)
    page.page.evaluate(
        """([x, y]) => {
            app.extensionManager.setting.set("Comfy.Minimap.Visible", false);
            app.canvas.ds.scale = 1;
            app.canvas.ds.offset = [90 - x, 170 - y];
            app.canvas.setDirty(true, true);
        }""",
        list(CORNER),
    )
    page.page.wait_for_timeout(800)


def shoot_node(page: PaintPage, kind: str, path: Path) -> None:
    """One node of the open workflow, with its title."""
    place = page.page.evaluate(
        """kind => {
            const { pos, size } = app.graph.nodes.find((node) => node.type === kind);
            const { offset } = app.canvas.ds;
            return { x: pos[0] + offset[0] - 8, y: pos[1] + offset[1] - 34,
                width: size[0] + 16, height: size[1] + 42 };
        }""",
        kind,
    )
    page.page.screenshot(path=str(path), type="jpeg", quality=88, clip=place)


def loop(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Paint and press for some rounds; returns the result to be written."""
    segmenter = load_segmenter()
    workflow = load(WORKFLOW)
    node = next(n["id"] for n in workflow["nodes"] if n["type"] == "PXPO_PaintReward")
    prompt = to_api(workflow, server.client.object_info())
    run = server.base / "output" / "pxpo" / prompt[find(prompt, "PXPO_Run")]["inputs"]["run_name"]
    rows = []
    first: tuple[torch.Tensor, torch.Tensor] | None = None
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser.find(), args=list(ARGUMENTS))
        context = chromium.new_context(viewport=VIEW)
        tab = context.new_page()
        tab.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
        page = PaintPage(tab, server, vue=options.vue)
        open_workflow(page, workflow)
        person = Person(page, server, segmenter, int(node))
        if options.pictures:
            person.film = Film(tab, {"x": 0, "y": 40, **VIEW, "height": VIEW["height"] - 40})
        person.press_run()
        page.page.wait_for_selector(".pxpo-stage:not(.pxpo-locked)")
        page.page.wait_for_timeout(1200)
        person.shoot(1200)
        for number in range(1, options.rounds + 1):
            started = time.monotonic()
            before = torch.stack([to_tensor(picture) for picture in person.shown()])
            hair = part_mask(segmenter, before)
            painted = person.dislike_hair(slowly=number == 1)
            marked = torch.from_numpy(np.stack(painted))
            if first is None:
                first = (before, marked)
            if options.pictures and number == 1:
                shoot_node(page, "PXPO_PaintReward", options.pictures / "paint_node.jpg")
            painting = time.monotonic() - started
            person.press_run()
            trained = json.loads((run / f"round_{number:04d}" / "metrics.json").read_text("utf-8"))
            page.finished(LIMIT)  # the next pictures, by themselves
            page.page.wait_for_selector(".pxpo-stage:not(.pxpo-locked)")
            page.page.wait_for_timeout(1200)
            person.shoot(1300 if number in (1, options.rounds) else 700)
            overlap = (marked & hair.bool()).sum() / (marked | hair.bool()).sum()
            rows.append(
                {
                    "round": number,
                    "hair": round(float(hair.mean()), 4),
                    "painted": round(float(marked.float().mean()), 4),
                    "iou_of_marks_and_hair": round(float(overlap), 3),
                    "change_inside": trained.get("change_inside"),
                    "change_outside": trained.get("change_outside"),
                    "seconds_painting": round(painting, 1),
                    "seconds_in_all": round(time.monotonic() - started, 1),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
        if options.pictures:
            shoot_node(page, "PXPO_UpdateLoRA", options.pictures / "paint_chart.jpg")
        errors = page.errors
        loras = server.base / "models" / "loras"
        loras.mkdir(parents=True, exist_ok=True)
        name = f"round_{options.rounds:04d}"
        shutil.copy(run / name / "lora.safetensors", loras / "loop.safetensors")
        assert first is not None
        seed = prompt[find(prompt, "PXPO_DDIMLogProbSampler")]["inputs"]["seed"]
        pairs = {}
        for what, number, count in (
            ("marked", seed, len(first[0])),
            ("held_out", HELD_OUT_SEED, options.held_out),
        ):
            pairs[what] = [
                sample(server, prompt, number, count, lora) for lora in (None, "loop.safetensors")
            ]
        if float((pairs["marked"][0] - first[0]).abs().mean()) > 0.02:
            raise RuntimeError("The pictures painted on first could not be made again.")
        if options.pictures:
            save_pictures(options, person, pairs)
        context.close()
        chromium.close()
    update = prompt[find(prompt, "PXPO_UpdateLoRA")]["inputs"]
    return {
        "rounds": rows,
        "marked_pictures": compare(segmenter, *pairs["marked"], first[1]),
        "held_out_seeds": compare(segmenter, *pairs["held_out"]),
        "errors_on_the_page": errors,
        "settings": {
            "prompt": [n["inputs"]["text"] for n in prompt.values() if "text" in n["inputs"]],
            "pictures_a_round": len(first[0]),
            "brush_px": BRUSH,
            "vue_nodes": options.vue,
            **{k: v for k, v in update.items() if not isinstance(v, list)},
            "run": {
                k: v
                for k, v in prompt[find(prompt, "PXPO_Run")]["inputs"].items()
                if not isinstance(v, list)
            },
        },
    }


def save_pictures(
    options: argparse.Namespace, person: Person, pairs: dict[str, list[torch.Tensor]]
) -> None:
    """The comparison of README.md, and the film that ends with it."""
    rounds = options.rounds
    names = ("Before", f"After {rounds} rounds of painting: the same noise")
    marked = grid(dict(zip(names, pairs["marked"], strict=True)), range(len(pairs["marked"][0])))
    held = grid(dict(zip(names, pairs["held_out"], strict=True)), range(8), 144)
    held.save(options.pictures / "paint_held_out.jpg", quality=88)
    assert person.film is not None
    four = grid(dict(zip(names, pairs["held_out"], strict=True)), range(4))
    person.film.add(stacked(marked, four), 4000)
    size = person.film.save(options.pictures / "paint_loop.webp")
    print(f"Film: {len(person.film.frames)} frames, {size / 1e6:.2f} MB")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--held-out", type=int, default=64, help="held-out pictures")
    parser.add_argument("--vue", action="store_true", help="Vue nodes instead of the canvas")
    parser.add_argument("--pictures", type=Path, help="also write pictures and the film there")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.pictures:
        options.pictures = options.pictures.resolve()
        options.pictures.mkdir(parents=True, exist_ok=True)
    HOME.mkdir(parents=True, exist_ok=True)
    base = Path(tempfile.mkdtemp(prefix="paint-loop-", dir=HOME))
    comfyui = read(Path(os.environ["COMFYUI_PATH"]))
    try:
        base_directory(base)
        with Server(Environment(Path(sys.prefix)), comfyui, base) as server:
            result = loop(server, options)
    finally:
        shutil.rmtree(base, ignore_errors=True)
    result["host"] = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "platform": platform.platform(),
        "torch": torch.__version__,
        "comfyui": comfyui.version,
        "commit": commit(),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("marked_pictures", "held_out_seeds")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
