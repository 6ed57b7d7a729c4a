"""What is removed from the paint folder, and above all what is not."""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from pathlib import Path

import pytest
import torch

from pxpo_core.painting import PaintFolder, ShownPicture, encode_map, prune
from pxpo_core.painting.pruning import KEPT_DAYS, PICTURES_KEPT_DAYS

NODE, OTHER = "ab" * 16, "cd" * 16
DAY = 24 * 3600.0


@pytest.fixture
def folder(tmp_path: Path) -> PaintFolder:
    return PaintFolder(tmp_path / "pxpo")


def map_file(folder: PaintFolder, number: int, owner: str | None, days: float) -> Path:
    """A map as the widget uploads it (owner: node and thumb), last used so many days ago."""
    png = encode_map(torch.full((8, 8), number / 127))
    if owner is not None:
        text = b"tEXt" + f"pxpo\0{owner}".encode()
        chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
        png = png[:33] + chunk + png[33:]
    path = folder.root / "maps" / f"{number:032x}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png)
    age(path, days)
    return path


def age(path: Path, days: float) -> None:
    used = time.time() - days * DAY
    os.utime(path, (used, used))


def test_only_old_replaced_maps_go(folder: PaintFolder) -> None:
    first, second = f"{NODE} {'1' * 32}", f"{NODE} {'2' * 32}"
    old, young = KEPT_DAYS + 1, KEPT_DAYS - 1
    gone = [map_file(folder, 1, first, old + 5), map_file(folder, 2, first, old)]
    stay = [
        map_file(folder, 3, first, young),  # replaced lately
        map_file(folder, 4, first, young - 1),  # the last one
        map_file(folder, 5, second, 1000),  # the last one of another picture
        map_file(folder, 6, f"{OTHER} {'1' * 32}", 1000),  # the last one of another node
        map_file(folder, 7, None, 1000),  # a person's own file
        map_file(folder, 8, None, 1001),
        map_file(folder, 9, "../../etc passwd", 1000),
        map_file(folder, 10, "../../etc passwd", 1001),
    ]
    assert prune(folder) == len(gone)
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in stay)
    assert prune(folder) == 0
    # A map with an owner is a map like any other, and using it keeps it.
    assert folder.load_map(stay[0].stem, 8, 8) is not None
    assert time.time() - stay[0].stat().st_mtime < 60


def test_what_the_newest_marks_of_a_node_name_stays(folder: PaintFolder) -> None:
    owner = f"{NODE} {'1' * 32}"
    paths = [map_file(folder, number, owner, KEPT_DAYS + 10 - number) for number in (1, 2, 3)]
    mark = {"thumb": "1" * 32, "map": paths[0].stem, "width": 8, "height": 8, "reviewed": True}
    for node, text in ((OTHER, json.dumps({"version": 1, "node": OTHER, "marks": [mark]})),
                       ("ef" * 16, "[" * 100_000), ("01" * 16, '{"version": 9}')):  # fmt: skip
        (folder.root / node).mkdir()
        (folder.root / node / "marks.json").write_text(text, encoding="utf-8")
    assert prune(folder) == 1
    assert [path.exists() for path in paths] == [True, False, True]


def test_strange_files_and_links_are_left_alone(folder: PaintFolder, tmp_path: Path) -> None:
    owner = f"{NODE} {'1' * 32}"
    map_file(folder, 1, owner, 1)
    outside = tmp_path / "outside.png"
    map_file(folder, 2, owner, 1000).rename(outside)
    link = folder.root / "maps" / f"{2:032x}.png"
    link.symlink_to(outside)
    strange = [folder.root / "maps" / name for name in ("mine.png", f"{'f' * 32}.jpg")]
    for path in strange:
        path.write_bytes(outside.read_bytes())
        age(path, 1000)
    (folder.root / "maps" / f"{3:032x}.png").write_bytes(b"")
    assert prune(folder) == 0
    assert outside.exists()
    assert link.is_symlink()
    assert all(path.exists() for path in strange)


def test_pictures_of_forgotten_nodes_go_and_nothing_else(folder: PaintFolder) -> None:
    for node, days in ((NODE, PICTURES_KEPT_DAYS + 1), (OTHER, PICTURES_KEPT_DAYS - 1)):
        picture = folder.save_picture(node, torch.rand(8, 8, 3))
        thumb = folder.save_thumb(torch.zeros(8, 8, 3, dtype=torch.uint8))
        folder.show(node, [ShownPicture(picture, thumb, 8, 8)])
        age(folder.root / node / "batch.json", days)
    mine = folder.root / NODE / "notes.txt"
    mine.write_text("kept")
    assert prune(folder) == 2
    assert [path.name for path in (folder.root / NODE).iterdir()] == ["notes.txt"]
    assert len(list((folder.root / OTHER).iterdir())) == 2
    assert folder.load_thumb(thumb) is not None
    mine.unlink()
    (folder.root / NODE / "batch.json").write_text(json.dumps({"batches": [{"images": [
        {"picture": "../../../secret"}, {"picture": None}]}]}))  # fmt: skip
    age(folder.root / NODE / "batch.json", PICTURES_KEPT_DAYS + 1)
    assert prune(folder) == 1
    assert not (folder.root / NODE).exists()


def test_an_empty_folder(folder: PaintFolder) -> None:
    assert prune(folder) == 0
