"""The words of the Toy Faces world and the colour each of them stands for."""

from __future__ import annotations

from types import MappingProxyType

RGB = tuple[int, int, int]

HAIR_COLOURS = MappingProxyType(
    {
        "black": (46, 42, 52),
        "brown": (122, 74, 44),
        "blonde": (242, 204, 96),
        "red": (208, 66, 40),
        "grey": (176, 180, 188),
        "blue": (58, 108, 214),
        "green": (62, 158, 84),
        "pink": (242, 120, 176),
    }
)
SKIN_TONES = MappingProxyType(
    {
        "light": (255, 219, 190),
        "tan": (222, 164, 116),
        "dark": (134, 86, 58),
    }
)
EYE_COLOURS = MappingProxyType(
    {
        "brown": (110, 66, 32),
        "blue": (52, 124, 216),
        "green": (48, 146, 78),
    }
)
SHIRT_COLOURS = MappingProxyType(
    {
        "red": (200, 58, 58),
        "blue": (52, 94, 190),
        "green": (66, 150, 84),
        "yellow": (240, 194, 62),
        "white": (240, 240, 244),
        "black": (52, 52, 62),
        "purple": (130, 82, 184),
    }
)
BACKGROUND_COLOURS = MappingProxyType(
    {
        "blue": (134, 190, 238),
        "green": (146, 212, 150),
        "pink": (248, 178, 202),
        "yellow": (250, 224, 124),
        "grey": (202, 204, 210),
        "purple": (188, 162, 230),
        "orange": (248, 174, 106),
    }
)
HAIR_STYLES = ("short", "long", "curly", "ponytail", "bun", "bald")
MOUTHS = ("smiling", "neutral", "open mouth")


def nearest(colour: tuple[float, float, float], palette: MappingProxyType[str, RGB]) -> str:
    """Name of the palette entry closest to `colour` (0..255) in squared RGB distance."""
    return min(
        palette, key=lambda n: sum((a - b) ** 2 for a, b in zip(colour, palette[n], strict=True))
    )


def shade(colour: RGB, factor: float) -> RGB:
    """Darken (`factor` < 1) or lighten (`factor` > 1, towards white) a colour."""
    if factor <= 1.0:
        r, g, b = (round(c * factor) for c in colour)
    else:
        r, g, b = (round(c + (255 - c) * min(1.0, factor - 1.0)) for c in colour)
    return r, g, b
