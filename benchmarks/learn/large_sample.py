"""What 2,048 pictures say of cells that were measured in a few: the Frechet distance is biased.

A cell trains the same way again, from the same seed, up to where its larger gain was first seen or
to a stated number of images, and is looked at once. Pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .cells import GAINS, Protocol, key_of
from .statistics import images_to_gain, ratio
from .tuning import curve_of

PICTURES = 2048
FOLDER = "learn_large"
Record = Mapping[str, Any]
_OVER_START = {"realism": "frechet", "detail": "detail", "faces": "valid"}


def large_look(
    record: Record, pictures: int = PICTURES, images: int | None = None
) -> Protocol | None:
    """One look at `pictures` after `images`, which the record has looked at too.

    images None: where it reached its task's larger gain, at any quality. None: it never did.
    """
    if images is not None:
        seen = any(look["images"] == images for look in record["evaluations"])
        return Protocol(images, (images,), pictures) if seen else None
    curve, _ = curve_of(record)
    reached = images_to_gain(curve, max(GAINS[record["task"]], default=float("inf")))
    return None if reached is None else Protocol(reached, (reached,), pictures)


def compared(finals: Iterable[Record], large: Iterable[Record]) -> list[dict[str, Any]]:
    """Each cell of `large` beside the record of `finals` that it repeats, methods and seeds rising.

    Each side: pictures, gain, Frechet distance, detail and valid faces over their start, and by how
    much more often pictures show what their prompt names.
    """
    known = {key_of(r): r for r in finals}
    rows = []
    for record in sorted(large, key=key_of):
        images = record["protocol"]["budget"]
        few = known.get(key_of(record))
        if few is None or all(e["images"] != images for e in few["evaluations"]):
            continue
        rows.append(
            {
                "method": record["method"],
                "seed": record["seed"],
                "images": images,
                "few": _seen(few["evaluations"], images),
                "many": _seen(record["evaluations"], images),
            }
        )
    return rows


def _seen(evaluations: Sequence[Mapping[str, Any]], images: int) -> dict[str, Any]:
    start = evaluations[0]
    now = next(e for e in evaluations if e["images"] == images)
    return {
        "pictures": now["n"],
        "gain": now["gain"],
        "frechet_at_start": start["frechet"],
        **{name: ratio(now[key], start[key]) for name, key in _OVER_START.items()},
        "prompts": {field: now["prompts"][field] - old for field, old in start["prompts"].items()},
    }
