"""What 2,048 pictures say of cells that were measured in a few: the Frechet distance is biased.

A cell trains the same way again, from the same seed, up to where its larger gain was first seen,
and is looked at once. Pure functions.
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


def large_look(record: Record, pictures: int = PICTURES) -> Protocol | None:
    """One look at `pictures` where the record reached its task's larger gain, at any quality.

    None: it never did.
    """
    curve, _ = curve_of(record)
    images = images_to_gain(curve, max(GAINS[record["task"]], default=float("inf")))
    return None if images is None else Protocol(images, (images,), pictures)


def compared(finals: Iterable[Record], large: Iterable[Record]) -> list[dict[str, Any]]:
    """Each cell of `large` beside the record of `finals` that it repeats, methods and seeds rising.

    Each side: pictures, gain, and Frechet distance, detail and valid faces over their start.
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


def _seen(evaluations: Sequence[Mapping[str, Any]], images: int) -> dict[str, float | None]:
    start = evaluations[0]
    now = next(e for e in evaluations if e["images"] == images)
    return {
        "pictures": now["n"],
        "gain": now["gain"],
        "frechet_at_start": start["frechet"],
        **{name: ratio(now[key], start[key]) for name, key in _OVER_START.items()},
    }
