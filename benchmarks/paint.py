"""What a stroke costs in the browser: script per pointer event, frames, memory, map size.

    python3 scripts/bench.py paint --strokes 500 --repeats 5

A real ComfyUI in a headless Chromium shows a picture of 1024x1024 in the paint node; strokes are
drawn with real pointer events, 8 ms apart, and Chrome's own trace says what they cost.

event_ms: script in one pointer event of the stage, the host's listeners included. frame_ms: the
longest task of the page's main thread from the first event of a stroke to half a second after the
last one, the host's own drawing of its graph included; frame_without_painting_ms: the same while
the pointer only moves, so what the host needs alone; ours_ms: the longest call of this pack's
scripts.
All in the thread's own time, so other programs on the machine do not count as long as they leave it
a core. Every figure is the median over --repeats of the largest value in a repeat, and the largest
of all is given beside it. memory_mb: JavaScript heap
and array buffers after a garbage collection, before and after --strokes strokes.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from paint_page import ARGUMENTS, Frame, PaintPage
from PIL import Image
from playwright.sync_api import sync_playwright
from pxpo_dev import browser
from pxpo_dev.comfyui import base_directory, commit, read
from pxpo_dev.environment import Environment
from pxpo_dev.paths import HOME, REPO
from pxpo_dev.server import Server

RESULT = REPO / "benchmarks" / "results" / "paint.json"
CATEGORIES = "devtools.timeline,toplevel,disabled-by-default-devtools.timeline,v8.execute"
POINTER_EVENTS = ("pointerdown", "pointermove", "pointerup")
MOVES = 40
QUICK_MOVES = 8  # of the many strokes that only memory is measured on
EVENT_SECONDS = 0.008


class Trace:
    """Chrome's trace of the page, between start and stop."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.events: list[dict[str, Any]] = []
        self.complete = False
        session.on("Tracing.dataCollected", lambda part: self.events.extend(part["value"]))
        session.on("Tracing.tracingComplete", lambda _: setattr(self, "complete", True))

    def start(self) -> None:
        self.events.clear()
        self.complete = False
        self.session.send("Tracing.start", {"categories": CATEGORIES})

    def stop(self, page: Any) -> list[dict[str, Any]]:
        self.session.send("Tracing.end")
        while not self.complete:
            page.wait_for_timeout(20)
        return self.events


def stroke(
    page: PaintPage, frame: Frame, number: int, paint: bool = True, moves: int = MOVES
) -> None:
    """A curved stroke over the picture; paint: with the button down."""
    mouse = page.page.mouse
    angle = number * 2.4

    def place(t: float) -> tuple[float, float]:
        reach = 380 * t
        turn = angle + 2 * t
        return frame.screen(512 + reach * math.cos(turn), 512 + reach * math.sin(turn))

    mouse.move(*place(0))
    if paint:
        mouse.down()
    for i in range(1, moves + 1):
        started = time.monotonic()
        mouse.move(*place(i / moves))
        time.sleep(max(0.0, EVENT_SECONDS - (time.monotonic() - started)))
    if paint:
        mouse.up()


def costs(events: list[dict[str, Any]]) -> dict[str, float]:
    """The largest costs in a trace of one stroke, in ms."""
    main = main_thread(events)
    pointer = [e for e in main if e["name"] == "EventDispatch"
               and e["args"]["data"]["type"] in POINTER_EVENTS]  # fmt: skip
    start = min(e["ts"] for e in pointer)
    # What follows the end of a stroke counts too: saving starts there.
    end = max(e["ts"] + e["dur"] for e in pointer) + 500_000
    inside = [e for e in main if start <= e["ts"] < end and e.get("dur")]
    tasks = [e for e in inside if e["name"].endswith("RunTask")]
    callbacks = [e for e in inside if e["name"] == "FireAnimationFrame"]
    calls = [e for e in inside if e["name"] == "FunctionCall"]
    ours = [e for e in calls if "/extensions/pxpo/" in e["args"]["data"].get("url", "")]

    def ms(found: list[dict[str, Any]]) -> float:
        # The thread's own time: other programs on the machine do not count.
        return max((e.get("tdur", e["dur"]) for e in found), default=0.0) / 1000

    ends = [e for e in pointer if e["args"]["data"]["type"] == "pointerup"]
    starts = [e for e in pointer if e["args"]["data"]["type"] == "pointerdown"]
    moves = [e for e in pointer if e["args"]["data"]["type"] == "pointermove"]
    return {
        "down_ms": ms(starts),
        "move_ms": ms(moves),
        "up_ms": ms(ends),
        "event_ms": ms(pointer),
        "ours_ms": ms(ours),
        "animation_callback_ms": ms(callbacks),
        "frame_ms": ms(tasks),
    }


def main_thread(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The complete events of the page's main thread, which is where its input is dispatched."""
    dispatched = [e for e in events if e.get("name") == "EventDispatch"]
    if not dispatched:
        raise SystemExit("The trace has no pointer event.")
    place = statistics.mode((e["pid"], e["tid"]) for e in dispatched)
    return [e for e in events if (e["pid"], e["tid"]) == place and e.get("ph") == "X"]


def memory(session: Any, page: Any) -> float:
    """JavaScript heap with array buffers in MB, after a garbage collection."""
    for _ in range(3):
        session.send("HeapProfiler.collectGarbage")
        page.wait_for_timeout(100)
    usage = session.send("Runtime.getHeapUsage")
    return float(usage["usedSize"] + usage.get("backingStorageSize", 0)) / 2**20


def largest_map(server: Server) -> int:
    maps = server.base / "input" / "pxpo" / "maps"
    return max((path.stat().st_size for path in maps.glob("*.png")), default=0)


def picture(server: Server, side: int) -> str:
    noise = np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)
    image.save(server.base / "input" / "paint_benchmark.png")
    return "paint_benchmark.png"


def measure(options: argparse.Namespace, server: Server, chromium: Any) -> dict[str, Any]:
    context = chromium.new_context(viewport={"width": 1700, "height": 1150})
    page = PaintPage(context.new_page(), server, vue=options.vue)
    session = context.new_cdp_session(page.page)
    page.build([picture(server, options.side)])
    page.press()
    page.page.get_by_label("Size").first.fill(str(options.brush))
    page.page.get_by_label("Hardness").first.fill(str(options.hardness))
    if options.large:
        page.stage().focus()
        page.key("f")
    frame = page.frame(options.side, options.side)
    frame = Frame(frame.left, frame.top, frame.scale * options.side / 1024)
    trace = Trace(session)
    for number in range(3):  # until the compiler has seen everything
        stroke(page, frame, number)
    page.saved()
    repeats = []
    for number in range(options.repeats):
        page.page.wait_for_timeout(700)
        trace.start()
        page.page.wait_for_timeout(100)
        if number % 2:
            page.key("x")
        stroke(page, frame, 10 + number)
        page.page.wait_for_timeout(600)
        repeats.append(costs(trace.stop(page.page)))
        trace.start()
        stroke(page, frame, 10 + number, paint=False)
        page.page.wait_for_timeout(600)
        repeats[-1]["frame_without_painting_ms"] = costs(trace.stop(page.page))["frame_ms"]
        print({k: round(v, 2) for k, v in repeats[-1].items()}, flush=True)
    figures: dict[str, Any] = {
        name: {
            "median": round(statistics.median(r[name] for r in repeats), 2),
            "largest": round(max(r[name] for r in repeats), 2),
        }
        for name in repeats[0]
    }
    if options.strokes:
        figures["memory_mb"] = growth(options, page, frame, session)
    page.saved()
    figures["largest_map_bytes"] = largest_map(server)
    figures["errors_in_page"] = page.errors
    context.close()
    return figures


def growth(options: argparse.Namespace, page: PaintPage, frame: Frame, session: Any) -> Any:
    """Memory at the start, in the middle (undo is full by then) and at the end."""
    taken = {"0": memory(session, page.page)}
    half = options.strokes // 2
    for number in range(1, options.strokes + 1):
        stroke(page, frame, number, moves=QUICK_MOVES)
        if number % 20 == 0:
            page.key("x")
        if number in (half, options.strokes):
            page.saved()
            page.page.wait_for_timeout(1000)
            taken[str(number)] = memory(session, page.page)
            print(number, "strokes", round(taken[str(number)], 1), "MB", flush=True)
    return {number: round(mb, 1) for number, mb in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--brush", type=float, default=0.6, help="size slider, 0 to 1")
    parser.add_argument("--hardness", type=float, default=0.8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--strokes", type=int, default=500, help="for memory; 0 leaves it out")
    parser.add_argument("--large", action="store_true", help="in the large view")
    parser.add_argument("--vue", action="store_true", help="in Vue nodes")
    parser.add_argument(
        "--frontend", type=Path, help="the static folder of another web UI than ComfyUI names"
    )
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    program = browser.find()
    if program is None:
        raise SystemExit(browser.MISSING)
    with tempfile.TemporaryDirectory(prefix="pxpo_bench_") as folder:
        server = Server(
            Environment(Path(sys.prefix)),
            read(Path(os.environ.get("COMFYUI_PATH") or HOME / "ComfyUI")),
            base_directory(Path(folder)),
            frontend=options.frontend,
        )
        with server, sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
            figures = measure(options, server, chromium)
            figures["chromium"] = chromium.version
            chromium.close()
    result = {
        **figures,
        "options": {k: str(v) for k, v in vars(options).items() if k != "out"},
        "system": platform.platform(),
        "commit": commit(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
