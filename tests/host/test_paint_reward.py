"""Paint Pixel Reward without a web page: masks and map files, good and hostile."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from host_prompts import save_map
from PIL import Image
from pxpo_dev.client import ExecutionFailed, PromptRejected
from pxpo_dev.server import Server

SIZE = 64


def prompt(marks: Any = None, mask: float | None = None, **inputs: Any) -> dict[str, Any]:
    """Two plain pictures -> Paint -> the two masks as pictures."""
    graph: dict[str, Any] = {
        "1": _node("EmptyImage", width=SIZE, height=SIZE, batch_size=2, color=0x336699),
        "2": _node("PXPO_PaintReward", image=["1", 0], mask_means="like", **inputs),
        "3": _node("MaskToImage", mask=["2", 1]),
        "4": _node("PreviewImage", images=["3", 0]),
        "5": _node("MaskToImage", mask=["2", 2]),
        "6": _node("PreviewImage", images=["5", 0]),
    }
    if marks is not None:
        graph["2"]["inputs"]["marks"] = marks
    if mask is not None:
        graph["7"] = _node("SolidMask", value=mask, width=SIZE, height=SIZE)
        graph["2"]["inputs"]["mask"] = ["7", 0]
    return graph


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


def levels(server: Server, result: Any, node: str) -> list[int]:
    """The mean grey level of each picture that a node shows."""
    return [
        round(np.asarray(Image.open(io.BytesIO(server.client.picture(r))).convert("L")).mean())
        for r in result.ui(node, "images")
    ]


def picture(*size: int, level: int = 128, mode: str = "L") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, level).save(buffer, "PNG")
    return buffer.getvalue()


def mark(name: str, **more: Any) -> dict[str, Any]:
    return {"version": 1, "marks": [{"map": name, "width": SIZE, "height": SIZE, **more}]}


def test_nothing_painted(server: Server) -> None:
    result = server.client.run(prompt())
    assert result.ui("2", "text") == ["Nothing painted yet."]
    assert levels(server, result, "4") == levels(server, result, "6") == [0, 0]


def test_a_mask_in_place_of_painting(server: Server) -> None:
    liked = server.client.run(prompt(mask=0.5))
    assert levels(server, liked, "4") == [127, 127]
    disliked = prompt(mask=1.0)
    disliked["2"]["inputs"]["mask_means"] = "dislike"
    result = server.client.run(disliked)
    assert levels(server, result, "4") == [0, 0]
    assert levels(server, result, "6") == [255, 255]
    assert result.ui("2", "text") == ["Marks on 2 of 2 pictures."]


def test_with_a_web_page_a_mask_is_shown_before_it_counts(server: Server) -> None:
    marks = {"version": 1, "node": "5b" * 16, "marks": []}
    first = server.client.run(prompt(marks, mask=1.0))
    assert levels(server, first, "4") == [0, 0]
    assert "Correct it, and press Run again" in first.ui("2", "text")[0]
    (start,) = {shown["start"] for shown in first.ui("2", "pxpo_paint")[0]["images"]}
    assert start is not None
    again = server.client.run(prompt(marks, mask=1.0))
    assert levels(server, again, "4") == [255, 255]
    assert again.ui("2", "text") == ["Marks on 2 of 2 pictures."]
    other = prompt(marks, mask=1.0)
    other["1"]["inputs"]["color"] = 0x994433
    assert levels(server, server.client.run(other), "4") == [0, 0], "new pictures: shown first"


def test_map_files_in_place_of_painting(server: Server, maps: Path) -> None:
    name = save_map(maps, picture(SIZE, SIZE, level=1))
    result = server.client.run(prompt(mark(name)))
    assert levels(server, result, "6") == [255, 0]
    assert result.ui("2", "text") == ["Marks on 1 of 2 pictures."]


def test_a_map_that_appears_later_counts(server: Server, maps: Path) -> None:
    content = picture(SIZE, SIZE, level=200)
    name = hashlib.sha256(content).hexdigest()[:32]
    (maps / f"{name}.png").unlink(missing_ok=True)
    before = server.client.run(prompt(mark(name)))
    assert before.ui("2", "text") == [
        "No feedback here yet: the files of earlier marks are not on this computer."
    ]
    save_map(maps, content)
    assert levels(server, server.client.run(prompt(mark(name))), "4")[0] > 100


def test_a_wait_without_a_web_page_falls_through(server: Server) -> None:
    """Nothing hangs; with no_answer the run stops instead."""
    marks = {"version": 1, "node": "5a" * 16, "marks": []}
    inputs = {"wait": "until answered", "wait_minutes": 0.05}
    result = server.client.run(prompt(marks, **inputs))
    (said,) = result.ui("2", "text")
    assert said.endswith("went on. Nothing painted yet.")
    assert levels(server, result, "4") == [0, 0]
    with pytest.raises(ExecutionFailed, match="interrupted"):
        server.client.run(prompt(marks, no_answer="stop the run", **inputs))
    # Without a widget there is nobody to ask, whatever the setting.
    result = server.client.run(prompt(mask=1.0, **inputs))
    assert result.ui("2", "text") == ["Marks on 2 of 2 pictures."]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"GIF89a" + bytes(64), "is not a readable PNG file"),
        (picture(20000, 1), "is for a picture of 20000x1, and this one is 64x64"),
        (picture(32, 32), "is for a picture of 32x32, and this one is 64x64"),
        (picture(SIZE, SIZE, mode="RGB", level=0), "must be 8-bit grey"),
    ],
    ids=["no PNG", "20000 px wide", "another picture", "colour"],
)
def test_hostile_map_files(server: Server, maps: Path, content: bytes, said: str) -> None:
    with pytest.raises(ExecutionFailed, match=said):
        server.client.run(prompt(mark(save_map(maps, content))))


@pytest.mark.parametrize(
    "marks",
    [
        mark("../../../etc/passwd"),
        mark("..\\secret"),
        {"version": 1, "node": "../outside", "marks": []},
        {"version": 7},
        "painted",
        mark("a" * 32, width=10**9),
    ],
    ids=["parent folder", "backslash", "node", "version", "text", "huge"],
)
def test_an_edited_value_is_refused_at_the_press(server: Server, marks: Any) -> None:
    files = sorted(p for p in server.base.rglob("*") if "pxpo" in p.parts)
    with pytest.raises(PromptRejected, match="The painted marks cannot be read"):
        server.client.run(prompt(marks))
    assert sorted(p for p in server.base.rglob("*") if "pxpo" in p.parts) == files
