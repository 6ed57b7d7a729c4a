"""The files of the paint widget, all below one folder of the host's input directory.

maps/<hash>.png     signed maps, uploaded by the widget (see pruning)
thumbs/<hash>.png   small copies that bind marks to pictures
answers/<token>.json what a person said to a run that waits, uploaded by the widget
<node>/batch.json   the last batches a node showed, newest first
<node>/<hash>.jpg   their pictures
<node>/marks.json   the widget's newest value, uploaded by it to be found after a crash
"""

import contextlib
import hashlib
import io
import json
import os
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .signed_png import MOST_BYTES, decode_map

BATCHES_KEPT = 4
JPEG_QUALITY = 93
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_SCHEMA = 1
_SHARED = ("maps", "thumbs", "answers")
_MOST_VALUE_BYTES = 4 * 2**20


@dataclass(frozen=True, slots=True)
class ShownPicture:
    """One picture of a batch: content names of its files, its size, and what is known of it.

    start: map to start painting from. mark: thumb of the mark that belongs to it.
    """

    picture: str
    thumb: str
    width: int
    height: int
    start: str | None = None
    mark: str | None = None


class PaintFolder:
    """The only code that touches the widget's files. Names are checked here, not by callers."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def load_map(self, name: str, width: int, height: int) -> Tensor | None:
        """A signed map [height, width], or None when the file is not there."""
        path = self._file("maps", name, ".png")
        if not path.is_file():
            return None
        values = decode_map(path, width, height)
        # Its time says when it was last used, and that keeps it (see pruning).
        with contextlib.suppress(OSError):
            os.utime(path)
        return values

    def has_map(self, name: str) -> bool:
        return self._file("maps", name, ".png").is_file()

    def save_map(self, png: bytes) -> str:
        return self._save("maps", png, ".png")

    def load_thumb(self, name: str) -> Tensor | None:
        """A small picture [h, w, 3] uint8, or None when it is not there or not readable."""
        path = self._file("thumbs", name, ".png")
        try:
            if path.stat().st_size > MOST_BYTES:
                return None
            with Image.open(path, formats=["PNG"]) as image:
                if image.mode != "RGB" or max(image.size) > 256:
                    return None
                return torch.from_numpy(np.array(image))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None

    def save_thumb(self, thumb: Tensor) -> str:
        return self._save("thumbs", _encoded(thumb, "PNG"), ".png")

    def save_picture(self, node: str, picture: Tensor) -> str:
        """picture: [H, W, 3] float in 0..1."""
        pixels = (picture[..., :3].clamp(0.0, 1.0) * 255.0).round().to("cpu", torch.uint8)
        return self._save(node, _encoded(pixels, "JPEG"), ".jpg")

    def read_answer(self, token: str) -> object | None:
        """What the widget has answered; None while there is nothing, or only a part of it."""
        path = self._file("answers", token, ".json")
        try:
            if path.stat().st_size > _MOST_VALUE_BYTES:
                return {"version": "too large"}
            answer: object = json.loads(path.read_text("utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        return answer

    def forget_answer(self, token: str) -> None:
        self._file("answers", token, ".json").unlink(missing_ok=True)

    def newest_marks(self, node: str) -> object | None:
        """The widget's value as it last uploaded it; None where none can be read."""
        path = self._contained(self._folder(node) / "marks.json")
        try:
            if path.stat().st_size > _MOST_VALUE_BYTES:
                return None
            value: object = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):  # anybody may upload one
            return None
        return value

    def batches(self, node: str) -> list[dict[str, Any]]:
        """The batches of a node, newest first; an unreadable list counts as empty."""
        path = self._folder(node) / "batch.json"
        try:
            found = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):  # anybody may upload one
            return []
        batches = found.get("batches") if isinstance(found, Mapping) else None
        return [b for b in batches if isinstance(b, dict)] if isinstance(batches, list) else []

    def shown_thumbs(self, node: str) -> list[str]:
        """The thumbs of the batch that a node showed last."""
        return _names(self.batches(node)[:1], "thumb")

    def show(self, node: str, pictures: Sequence[ShownPicture]) -> dict[str, Any]:
        """Put a batch first in the node's list and forget the oldest; returns its entry."""
        digest = hashlib.sha256("".join(p.thumb for p in pictures).encode()).hexdigest()[:32]
        entry = {"batch": digest, "images": [asdict(picture) for picture in pictures]}
        batches = self.batches(node)
        if batches[:1] == [entry]:
            return entry
        kept = [entry, *(b for b in batches if b.get("batch") != digest)]
        content = {"schema": _SCHEMA, "node": node, "batches": kept[:BATCHES_KEPT]}
        _write(self._folder(node) / "batch.json", json.dumps(content).encode())
        self._forget(node, kept[BATCHES_KEPT:], kept[:BATCHES_KEPT])
        return entry

    def forget_node(self, node: str) -> int:
        """Remove a node's list and the pictures in it; returns how many files."""
        names = set(_names(self.batches(node), "picture"))
        paths = [self._file(node, name, ".jpg") for name in names]
        paths.append(self._folder(node) / "batch.json")
        there = [path for path in paths if path.exists()]
        for path in there:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else lies there
            self._folder(node).rmdir()
        return len(there)

    def _forget(self, node: str, old: Sequence[Any], kept: Sequence[Any]) -> None:
        """Remove pictures that only forgotten batches list; nothing else is ever deleted."""
        for name in set(_names(old, "picture")).difference(_names(kept, "picture")):
            self._file(node, name, ".jpg").unlink(missing_ok=True)

    def _save(self, folder: str, content: bytes, ending: str) -> str:
        name = hashlib.sha256(content).hexdigest()[:32]
        path = self._file(folder, name, ending)
        if not path.exists():
            _write(path, content)
        return name

    def _folder(self, name: str) -> Path:
        if name not in _SHARED:
            _check_id(name)
        return self._contained(self.root / name)

    def _file(self, folder: str, name: str, ending: str) -> Path:
        _check_id(name)
        return self._contained(self._folder(folder) / f"{name}{ending}")

    def _contained(self, path: Path) -> Path:
        """Refuse a path that a link leads out of our folder."""
        root = os.path.realpath(self.root)
        if os.path.commonpath([root, os.path.realpath(path)]) != root:
            raise ValueError(f"The paint file {path.name} is a link out of its folder: refused.")
        return path


def _names(batches: Sequence[Any], kind: str) -> list[str]:
    """Names of files of a kind, "picture" or "thumb", that entries of a batch list show."""
    found = []
    for batch in batches:
        images = batch.get("images") if isinstance(batch, Mapping) else None
        for image in images if isinstance(images, list) else ():
            name = image.get(kind) if isinstance(image, Mapping) else None
            if isinstance(name, str) and _ID.fullmatch(name):
                found.append(name)
    return found


def _check_id(name: str) -> None:
    if _ID.fullmatch(name) is None:
        raise ValueError(f"A paint file is named by 32 hex digits, got {name!r:.60}.")


def _encoded(pixels: Tensor, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.cpu().numpy()).save(buffer, kind, quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> None:
    """All or nothing: a reader never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
