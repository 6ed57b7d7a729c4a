"""Whether pictures fall apart while their reward rises: cheap signs, compared with earlier rounds.

A reward says nothing about what it does not measure. Flat, blurred or saturated pictures are the
optimum of an unbounded colour reward, and every policy gradient finds them in the end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

REFERENCE_ROUNDS = 2
"""The first rounds of a prompt are what its pictures are compared with."""

LEAST_DETAIL, MOST_DETAIL = 0.6, 1.7
LEAST_VARIETY = 0.5
MORE_SATURATED = 0.25
LEAST_SIGNAL = 0.1
LARGEST_DRIFT, DRIFT_TO_STOP = 0.06, 0.1
"""Nats per latent value. On Toy Faces the distance to portraits grew by a quarter at about 0.05, by
half at about 0.1, and twofold at about 0.25 (less blue, `kl` in the raw records of
docs/learning.md). A round can triple it, and it is only known after one: at 0.15 five runs ended at
2 to 6 times the distance.
"""

FAR = "the LoRA has moved far from the base model"

GOING_BACK = "go back some rounds, lower learning_rate or raise anchor"


@dataclass(frozen=True, slots=True)
class PictureSigns:
    """What a round's pictures look like, in numbers without a model.

    detail: mean absolute Laplacian of the brightness, 0..4 in units of full brightness.
    variety: sd over the pictures per pixel and channel, 0..0.5; None for a single picture.
    saturated: share of pixels with a channel at its limit, 0..1.
    """

    detail: float
    variety: float | None
    saturated: float

    def to_dict(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def picture_signs(pictures: Tensor) -> PictureSigns:
    """pictures: [B, h, w, 3] uint8, the small copies a reward carries."""
    values = pictures.to(torch.float32) / 255.0
    light = values.mean(dim=-1)[:, None]
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]])[None, None]
    padded = torch.nn.functional.pad(light, (1, 1, 1, 1), mode="replicate")
    limits = (pictures <= 1) | (pictures >= 254)
    return PictureSigns(
        detail=float(torch.nn.functional.conv2d(padded, kernel).abs().mean()),
        variety=float(values.std(dim=0).mean()) if len(values) > 1 else None,
        saturated=float(limits.any(dim=-1).to(torch.float32).mean()),
    )


def warnings(
    now: Mapping[str, Any], history: Sequence[Mapping[str, Any]], painted: bool
) -> list[str]:
    """Plain sentences on what got worse, worst first; empty when all is well.

    now, history: a round's and the earlier rounds' metrics, with the keys of `PictureSigns`,
    "prompt", "signal" (rms of the advantage before scaling), "reward" (its name) and "drift" (see
    `path_drift`). Only rounds of the same prompt compare, and signals of the same reward. painted:
    a person's marks may well get fewer; that is no warning.
    """
    same = [entry for entry in history if entry.get("prompt") == now.get("prompt")]
    first = [entry for entry in same if "detail" in entry][:REFERENCE_ROUNDS]
    found = []
    detail = _relative(now, first, "detail")
    if detail is not None and detail < LEAST_DETAIL:
        found.append(f"the pictures have lost {1.0 - detail:.0%} of their fine detail")
    if detail is not None and detail > MOST_DETAIL:
        found.append(f"the pictures have become {detail:.1f} times as noisy")
    variety = _relative(now, first, "variety")
    if variety is not None and variety < LEAST_VARIETY:
        found.append(f"the pictures differ {1.0 - variety:.0%} less from each other")
    saturated = _mean(first, "saturated")
    if saturated is not None and now["saturated"] > saturated + MORE_SATURATED:
        found.append(f"{now['saturated']:.0%} of the pixels are at their brightest or darkest")
    alike = [entry for entry in same if entry.get("reward") == now.get("reward")]
    signal = _relative(now, alike[:REFERENCE_ROUNDS], "signal")
    if not painted and signal is not None and signal < LEAST_SIGNAL:
        found.append("all pictures get nearly the same reward, so there is little left to learn")
    if _moved(now, history) > LARGEST_DRIFT:
        found.append(FAR)
    return found


def should_stop(
    found: Sequence[str], now: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> bool:
    """Two rounds in a row with bad signs: one alone may be chance. A large drift is not.

    Having moved far is no bad sign by itself, short of that: a model that learns does.
    """
    if _moved(now, history) > DRIFT_TO_STOP:
        return True
    before = history[-1].get("warnings") or [] if history else []
    return all(set(signs) - {FAR} for signs in (found, before))


def warning_text(found: Sequence[str], stopped: bool) -> str:
    """What the node says; empty without warnings."""
    if not found:
        return ""
    since = "; ".join(found)
    if stopped:
        return (
            f"Stopped, because compared with the first rounds {since}. To go on: {GOING_BACK}, "
            "or switch auto_stop off."
        )
    return f" Careful: compared with the first rounds {since}. If you see it too, {GOING_BACK}."


def _moved(now: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> float:
    """Drift since round 1: a run that starts from a LoRA is away from the base model at once."""
    first = history[0] if history else now
    return float(now.get("drift", 0.0)) - float(first.get("drift", 0.0))


def _mean(entries: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [float(entry[name]) for entry in entries if name in entry]
    return sum(values) / len(values) if values else None


def _relative(
    now: Mapping[str, Any], first: Sequence[Mapping[str, Any]], name: str
) -> float | None:
    """Today's value as a multiple of the first rounds', where both are known."""
    before = _mean(first, name)
    return None if before is None or before == 0.0 or name not in now else now[name] / before
