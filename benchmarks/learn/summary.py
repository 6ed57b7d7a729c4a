"""learn.json from the raw records: a pure function, so that every figure can be traced back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .cells import GAINS, key_of
from .front import front
from .large_sample import compared
from .methods import METHODS, OURS, suffix
from .statistics import (
    geometric_mean_ratio,
    images_to_gain,
    ratio,
    value_at_gain,
    with_budget,
)
from .survival import survival
from .tuning import Settings, at_an_edge, chosen_settings, curve_of, gain_kept, setting_for

Records = Sequence[Mapping[str, Any]]

QUALITIES = {
    "held quality": "images_to_gain",
    "any quality": "images_to_gain_at_any_quality",
}
"""A race can be won by ruining the pictures: both counts are published."""


def summarize(records: Records, large: Records = ()) -> dict[str, Any]:
    """{task: {method: {...}}} of the final seeds, with each method's tuning, the ratios, what
    noise leaves and what many pictures say.

    records: of all tasks; where a cell was run several times, the most thorough record counts.
    large: cells looked at again in many pictures.
    """
    settings = chosen_settings(records)
    finals_of = final_records(records, settings)
    repeated = [record for finals in finals_of.values() for record in finals]
    result: dict[str, Any] = {}
    for task in sorted({r["task"] for r in records}):
        here = [r for r in records if r["task"] == task]
        methods = sorted({r["method"] for r in here})
        table: dict[str, Any] = {}
        for method in methods:
            own = [r for r in here if r["method"] == method]
            rate, batch = settings.get((task, method), (None, None))
            finals = finals_of.get((task, method), [])
            entry = _finals_summary(task, finals) if finals else {}
            table[method] = {
                **entry,
                "tuning": _tuning_summary(own, rate, batch),
            }
        result[task] = {
            **table,
            "ratios": _ratios(task, table),
            "noise": survival(table),
            "front": front(table, GAINS[task]),
            "large": compared(repeated, [r for r in large if r["task"] == task]),
        }
    return result


def final_records(
    records: Records, settings: Settings
) -> dict[tuple[str, str], list[Mapping[str, Any]]]:
    """(task, method) -> the record of each final seed that counts, seeds rising."""
    own: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        own.setdefault((record["task"], record["method"]), []).append(record)
    found = {key: _finals(some, setting_for(settings, *key)) for key, some in own.items()}
    return {key: finals for key, finals in found.items() if finals}


def _finals(own: Records, chosen: tuple[float, int] | None) -> list[Mapping[str, Any]]:
    """One record per final seed, seeds rising; of the chosen setting, else of the most tried one.

    Of a seed's several records the one with the most held-out pictures counts, then the longest.
    """
    settings: dict[tuple[float, int], dict[int, Mapping[str, Any]]] = {}
    for record in own:
        cell = key_of(record)
        if cell.tuning:
            continue
        seeds = settings.setdefault((cell.rate, cell.batch), {})
        if cell.seed not in seeds or _weight(record) > _weight(seeds[cell.seed]):
            seeds[cell.seed] = record
    if not settings:
        return []
    found = settings[chosen] if chosen in settings else max(settings.values(), key=len)
    return [found[seed] for seed in sorted(found)]


def _weight(record: Mapping[str, Any]) -> tuple[int, int]:
    return record["protocol"]["held_out"], record["protocol"]["budget"]


def _finals_summary(task: str, finals: Records) -> dict[str, Any]:
    first = finals[0]
    reached: dict[str, list[int | None]] = {}
    regardless: dict[str, list[int | None]] = {}
    curves = [curve_of(record) for record in finals]
    for gain in GAINS[task]:
        name = f"{gain:.2f}"
        reached[name] = [images_to_gain(curve, gain, held) for curve, held in curves]
        regardless[name] = [images_to_gain(curve, gain) for curve, _ in curves]
    last = [r["evaluations"][-1] for r in finals]
    starts = [r["evaluations"][0] for r in finals]
    return {
        "learning_rate": first["rate"],
        "batch": first["batch"],
        "seeds": [r["seed"] for r in finals],
        "budget": [r["protocol"]["budget"] for r in finals],
        "held_out": [r["protocol"]["held_out"] for r in finals],
        "images": [e["images"] for e in last],
        "stopped": [r["stopped"] for r in finals],
        "images_to_gain": reached,
        "images_to_gain_at_any_quality": regardless,
        "realism_at_gain": {
            f"{gain:.2f}": [_realism_at(r, gain) for r in finals] for gain in GAINS[task]
        },
        "gain": [e["gain"] for e in last],
        "realism": [ratio(e["frechet"], s["frechet"]) for e, s in zip(last, starts, strict=True)],
        "faces": [e["valid"] for e in last],
        "faces_at_start": [s["valid"] for s in starts],
        "detail": [ratio(e["detail"], s["detail"]) for e, s in zip(last, starts, strict=True)],
        "diversity": [
            ratio(e["diversity"], s["diversity"]) for e, s in zip(last, starts, strict=True)
        ],
        "locality": [ratio(e["change_inside"], e["change_outside"]) for e in last],
        "curves": [
            [[e["images"], e["gain"], e["frechet"], e.get("kl")] for e in r["evaluations"]]
            for r in finals
        ],
    }


def _realism_at(record: Mapping[str, Any], gain: float) -> float | None:
    """Frechet distance over its start where the gain is first reached."""
    looks = record["evaluations"]
    distances = [ratio(look["frechet"], looks[0]["frechet"]) for look in looks]
    found = value_at_gain([look["gain"] for look in looks], distances, gain)
    return None if found is None else round(found, 4)


def _tuning_summary(own: Records, rate: float | None, batch: int | None) -> dict[str, Any]:
    trials = []
    for record in own:
        cell = key_of(record)
        if cell.tuning:
            start, last = record["evaluations"][0], record["evaluations"][-1]
            trials.append(
                {
                    "learning_rate": cell.rate,
                    "batch": cell.batch,
                    "seed": cell.seed,
                    "images": last["images"],
                    "held_out": last["n"],
                    "gain": last["gain"],
                    "realism": ratio(last["frechet"], start["frechet"]),
                    "faces": last["valid"],
                    "gain_held": gain_kept(record),
                }
            )
    trials.sort(key=lambda t: (t["batch"], t["learning_rate"], t["seed"]))
    if rate is None:
        return {"trials": trials}
    tried = [t["learning_rate"] for t in trials if t["batch"] == batch]
    return {
        "learning_rate": rate,
        "batch": batch,
        "at_an_edge": at_an_edge(rate, tried),
        "trials": trials,
    }


def _ratios(task: str, table: Mapping[str, Any]) -> dict[str, Any]:
    """Images that other methods need over images that the default, and the method they are a change
    of, need, per gain, with 95 % intervals. What was not tuned is compared at equal settings only.
    """
    finals = {method: entry for method, entry in table.items() if "seeds" in entry}
    ratios: dict[str, Any] = {}
    for method, entry in finals.items():
        # What changes the default of one step is compared with that alone.
        compared_with = {METHODS[method].base} if suffix(method) else {OURS, METHODS[method].base}
        for base in sorted(compared_with):
            if base != method and base in finals and _comparable(entry, finals[base]):
                found = _ratios_of(task, entry, finals[base])
                ratios |= {f"{method} / {base}": found} if found else {}
    return ratios


def _comparable(entry: Mapping[str, Any], base: Mapping[str, Any]) -> bool:
    """Whether a difference is the method's own: both ran alike, or each at its best setting."""
    same = all(entry[key] == base[key] for key in ("learning_rate", "batch"))
    return same or bool(entry["tuning"]["trials"])


def _ratios_of(task: str, entry: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """By gain and quality; empty without common seeds."""
    common = sorted(set(base["seeds"]) & set(entry["seeds"]))
    ratios: dict[str, Any] = {}
    for name in (f"{gain:.2f}" for gain in GAINS[task] if common):
        for quality, key in QUALITIES.items():
            a, b = (_counts(e, key, name, common) for e in (entry, base))
            mean, low, high = geometric_mean_ratio(a, b, paired=True)
            ratios[f"{name}, {quality}"] = {
                "ratio": round(mean, 3),
                "low": round(low, 3),
                "high": round(high, 3),
                "seeds": len(common),
            }
    return ratios


def _counts(entry: Mapping[str, Any], key: str, name: str, seeds: Sequence[int]) -> list[int]:
    places = [entry["seeds"].index(seed) for seed in seeds]
    counts = [entry[key][name][i] for i in places]
    return with_budget(counts, [entry["budget"][i] for i in places])
