"""Marks, map files and pictures of the paint node, and what hostile ones meet."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from pxpo_core.painting import (
    MapInvalid,
    Marks,
    MarksInvalid,
    PaintFolder,
    ShownPicture,
    decode_map,
    encode_map,
    painted_feedback,
    read_marks,
    were_shown,
)
from pxpo_core.painting.binding import bind, thumbnails

NODE = "ab" * 16
A, B = "0" * 32, "1" * 32


@pytest.fixture
def folder(tmp_path: Path) -> PaintFolder:
    return PaintFolder(tmp_path / "pxpo")


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 40, 48, 3, generator=torch.Generator().manual_seed(1))


def value(*marks: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "node": NODE, "marks": list(marks)}


def mark(thumb: str | None, map_: str | None, **more: Any) -> dict[str, Any]:
    return {"thumb": thumb, "map": map_, "width": 48, "height": 40, "reviewed": True, **more}


def thumb_of(folder: PaintFolder, images: torch.Tensor, index: int) -> str:
    return folder.save_thumb(thumbnails(images)[index])


@pytest.mark.parametrize("nothing", [None, "", {}, {"version": 1}])
def test_nothing_painted(nothing: object) -> None:
    assert read_marks(nothing) == Marks()


@pytest.mark.parametrize(
    "bad",
    [
        7,
        [1],
        "marks",
        {"version": 2},
        {"version": 1, "node": "../../etc"},
        {"version": 1, "node": A + "\n"},
        value(mark(A, "../secret")),
        value(mark(A, "C:\\x")),
        value(mark(A, B, width=20000)),
        value(mark(A, B, width=True)),
        value(mark(A, B, height=0)),
        value(mark(A, B, reviewed="yes")),
        {"version": 1, "marks": {}},
        {"version": 1, "marks": [None]},
        {"version": 1, "marks": [{}] * 5000},
    ],
)
def test_an_edited_value_is_refused(bad: object) -> None:
    with pytest.raises(MarksInvalid, match="The painted marks cannot be read"):
        read_marks(bad)


def test_maps_keep_their_values(tmp_path: Path) -> None:
    steps = torch.arange(-127, 128, dtype=torch.float32)[None] / 127
    path = tmp_path / "map.png"
    path.write_bytes(encode_map(steps))
    assert torch.allclose(decode_map(path, 255, 1), steps)


def test_hostile_map_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.png"
    path.write_bytes(b"GIF89a" + bytes(100))
    with pytest.raises(MapInvalid, match="not a readable PNG"):
        decode_map(path, 4, 4)
    Image.new("L", (20000, 1)).save(path)
    with pytest.raises(MapInvalid, match="is for a picture of 20000x1"):
        decode_map(path, 4, 4)
    Image.new("RGB", (4, 4)).save(path, "PNG")
    with pytest.raises(MapInvalid, match="8-bit grey"):
        decode_map(path, 4, 4)
    Image.new("L", (4, 4)).save(path, "JPEG")
    with pytest.raises(MapInvalid, match="not a readable PNG"):
        decode_map(path, 4, 4)
    good = encode_map(torch.rand(64, 64))
    path.write_bytes(good[: len(good) // 2])
    with pytest.raises(MapInvalid, match="not a readable PNG"):
        decode_map(path, 64, 64)


@pytest.mark.parametrize("name", ["..", "../" + A, A + ".png", "a" * 31, A.upper()[:31] + "G", ""])
def test_names_are_never_paths(folder: PaintFolder, name: str) -> None:
    for call in (
        lambda: folder.load_map(name, 4, 4),
        lambda: folder.load_thumb(name),
        lambda: folder.batches(name),
        lambda: folder.save_picture(name, torch.zeros(4, 4, 3)),
    ):
        with pytest.raises(ValueError, match="32 hex digits"):
            call()


def test_links_out_of_the_folder_are_refused(folder: PaintFolder, tmp_path: Path) -> None:
    outside = tmp_path / "outside.png"
    outside.write_bytes(encode_map(torch.zeros(4, 4)))
    (folder.root / "maps").mkdir(parents=True)
    (folder.root / "maps" / f"{A}.png").symlink_to(outside)
    with pytest.raises(ValueError, match="link out of its folder"):
        folder.load_map(A, 4, 4)


def test_marks_follow_their_picture(folder: PaintFolder, images: torch.Tensor) -> None:
    painted = torch.zeros(40, 48)
    painted[10:20, 5:9] = -1.0
    name = folder.save_map(encode_map(painted))
    marks = read_marks(value(mark(thumb_of(folder, images, 2), name)))
    # Another order, and bits that differ as they do between machines.
    other = (images.flip(0) + 1e-4).clamp(0, 1)
    feedback = painted_feedback(other, marks, folder, None, 1.0)
    assert feedback.reward.painted
    assert feedback.reward.reviewed.tolist() == [True, False, False]
    assert torch.allclose(feedback.reward.map[0], painted)
    assert not feedback.reward.map[1:].any()
    assert feedback.kept == 0


def test_marks_of_other_pictures_are_kept_apart(folder: PaintFolder, images: torch.Tensor) -> None:
    name = folder.save_map(encode_map(torch.ones(40, 48)))
    marks = read_marks(value(mark(thumb_of(folder, images, 0), name)))
    feedback = painted_feedback(1.0 - images, marks, folder, None, 1.0)
    assert not feedback.reward.marked
    assert (feedback.kept, feedback.missing) == (1, 0)


def test_on_another_computer_there_is_no_feedback_yet(
    folder: PaintFolder, images: torch.Tensor
) -> None:
    gone = painted_feedback(images, read_marks(value(mark(A, B))), folder, None, 1.0)
    assert not gone.reward.marked
    assert gone.missing == 1
    thumb = thumb_of(folder, images, 0)
    half = painted_feedback(images, read_marks(value(mark(thumb, B))), folder, None, 1.0)
    assert not half.reward.reviewed.any()
    assert half.missing == 1


def test_a_map_for_another_size_is_an_error(folder: PaintFolder, images: torch.Tensor) -> None:
    name = folder.save_map(encode_map(torch.ones(8, 8)))
    marks = read_marks(value(mark(thumb_of(folder, images, 0), name)))
    with pytest.raises(MapInvalid, match="is for a picture of 8x8, and this one is 48x40"):
        painted_feedback(images, marks, folder, None, 1.0)


def test_a_mask_counts_until_a_picture_is_painted_on(
    folder: PaintFolder, images: torch.Tensor
) -> None:
    name = folder.save_map(encode_map(torch.ones(40, 48)))
    marks = read_marks(value(mark(thumb_of(folder, images, 1), name)))
    feedback = painted_feedback(images, marks, folder, torch.full((1, 20, 24), 0.5), -1.0)
    assert feedback.reward.map.mean(dim=(1, 2)).tolist() == [-0.5, 1.0, -0.5]
    assert feedback.reward.reviewed.all()
    assert [start is None for start in feedback.starts] == [False, True, False]


def test_a_mask_may_be_no_more_than_a_start(folder: PaintFolder, images: torch.Tensor) -> None:
    name = folder.save_map(encode_map(torch.ones(40, 48)))
    marks = read_marks(value(mark(thumb_of(folder, images, 1), name)))
    mask = torch.full((1, 20, 24), 0.5)
    feedback = painted_feedback(images, marks, folder, mask, -1.0, mask_counts=False)
    assert feedback.reward.map.mean(dim=(1, 2)).tolist() == [0.0, 1.0, 0.0]
    assert feedback.reward.reviewed.tolist() == [False, True, False]
    assert [s is None or float(s.mean()) for s in feedback.starts] == [-0.5, True, -0.5]


def test_only_the_last_batch_counts_as_shown(folder: PaintFolder, images: torch.Tensor) -> None:
    def show(batch: torch.Tensor) -> None:
        thumbs = [folder.save_thumb(thumb) for thumb in thumbnails(batch)]
        folder.show(NODE, [ShownPicture("0" * 32, thumb, 48, 40) for thumb in thumbs])

    assert not were_shown(images, NODE, folder)
    show(images[:2])
    assert were_shown(images[:2], NODE, folder)
    assert were_shown(images[:2] * 0.999, NODE, folder), "told by small copies, not by bits"
    assert not were_shown(images, NODE, folder)
    show(1.0 - images)
    assert not were_shown(images[:2], NODE, folder)


def test_api_calls_may_give_maps_in_order(folder: PaintFolder, images: torch.Tensor) -> None:
    name = folder.save_map(encode_map(torch.full((40, 48), 1.0)))
    marks = read_marks({"version": 1, "marks": [mark(None, None), mark(None, name)]})
    feedback = painted_feedback(images, marks, folder, None, 1.0)
    assert feedback.reward.map.mean(dim=(1, 2)).tolist() == [0.0, 1.0, 0.0]
    assert feedback.reward.reviewed.tolist() == [True, True, False]


def test_each_mark_is_used_once() -> None:
    same = torch.full((3, 8, 8, 3), 90, dtype=torch.uint8)
    assert bind(same, [same[0], same[1], same[2]]) == [0, 1, 2]
    assert bind(same, [None, same[0]]) == [None, 1, None]
    assert bind(same + 3, list(same)) == [None, None, None]


def test_old_batches_are_forgotten_and_only_their_pictures_deleted(folder: PaintFolder) -> None:
    for i in range(6):
        picture = folder.save_picture(NODE, torch.full((16, 16, 3), i / 6))
        folder.show(NODE, [ShownPicture(picture, f"{i:032x}", 16, 16)])
    stranger = folder.root / NODE / "mine.txt"
    stranger.write_text("keep")
    folder.show(NODE, [ShownPicture(picture, "f" * 32, 16, 16)])
    batches = folder.batches(NODE)
    assert len(batches) == 4
    assert batches[0]["images"][0]["thumb"] == "f" * 32
    assert len(list((folder.root / NODE).glob("*.jpg"))) == 3
    assert stranger.exists()
    listed = json.loads((folder.root / NODE / "batch.json").read_text())
    assert listed["node"] == NODE


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"batches": 3}', '{"batches": [1]}', "\x00"])
def test_a_damaged_list_counts_as_empty(folder: PaintFolder, content: str) -> None:
    (folder.root / NODE).mkdir(parents=True)
    (folder.root / NODE / "batch.json").write_text(content)
    assert folder.batches(NODE) == []
    folder.show(NODE, [ShownPicture(A, B, 4, 4)])
    assert len(folder.batches(NODE)) == 1
