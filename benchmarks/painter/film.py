"""Frames of the real page, and the short animated picture made of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

WIDTH = 960
MOST_BYTES = 2_000_000


class Film:
    """Collects screenshots with the time each is shown."""

    def __init__(self, page: Any, clip: dict[str, float]) -> None:
        self.page, self.clip = page, clip
        self.frames: list[tuple[Image.Image, int]] = []

    def shoot(self, milliseconds: int) -> None:
        picture = Image.open(io.BytesIO(self.page.screenshot(clip=self.clip))).convert("RGB")
        height = round(picture.height * WIDTH / picture.width)
        self.frames.append(
            (picture.resize((WIDTH, height), Image.Resampling.LANCZOS), milliseconds)
        )

    def add(self, picture: Image.Image, milliseconds: int) -> None:
        """A frame that is no screenshot, on a canvas of the film's size."""
        first = self.frames[0][0]
        canvas = Image.new("RGB", first.size, (24, 24, 27))
        scale = min(first.width / picture.width, first.height / picture.height) * 0.96
        small = picture.resize((round(picture.width * scale), round(picture.height * scale)))
        place = ((first.width - small.width) // 2, (first.height - small.height) // 2)
        canvas.paste(small, place)
        self.frames.append((canvas, milliseconds))

    def save(self, path: Path) -> int:
        """Write an animated WebP of at most 2 MB; returns its size in bytes."""
        pictures = [picture for picture, _ in self.frames]
        for quality in (80, 70, 60, 50, 40, 30):
            buffer = io.BytesIO()
            pictures[0].save(
                buffer,
                "WEBP",
                save_all=True,
                append_images=pictures[1:],
                duration=[milliseconds for _, milliseconds in self.frames],
                loop=0,
                quality=quality,
                method=6,
            )
            if buffer.tell() <= MOST_BYTES:
                break
        path.write_bytes(buffer.getvalue())
        return buffer.tell()
