"""The measurement of how much a value foresees."""

from __future__ import annotations

import json
from statistics import fmean

import torch
from quick_value import fit_value

from benchmarks.learn.command import RESULTS
from benchmarks.learn.foresight import Seen, explained


def test_what_is_explained_is_all_nothing_or_worse():
    latents = torch.randn((4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    seen, everywhere = Seen(latents, latents[:, 0]), torch.ones(8, 8, dtype=torch.bool)
    mean = seen.maps.mean()
    assert explained(lambda x: x[:, 0], seen, everywhere) == 1.0
    assert explained(lambda x: mean.expand(x[:, 0].shape), seen, everywhere) == 0.0
    assert explained(lambda x: -x[:, 0], seen, everywhere) < -2.0
    assert explained(fit_value(latents, latents[:, 0]), seen, everywhere) > 0.9


def test_only_the_chosen_places_count():
    latents = torch.randn((4, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    seen, left = Seen(latents, latents[:, 0]), torch.zeros(8, 8, dtype=torch.bool)
    left[:, :4] = True
    assert explained(lambda x: x[:, 0] * left, seen, left) == 1.0
    assert explained(lambda x: x[:, 0] * left, seen, ~left) < 0.1


def test_the_committed_figures_say_what_the_page_says():
    found = json.loads((RESULTS / "learn_foresight.json").read_text(encoding="utf-8"))
    finished = {task: fmean(figures["finished"]) for task, figures in found.items()}
    assert finished["blue"] > 0.9
    assert 0.4 < finished["hair"] < 0.8
    assert finished["alignment"] < 0.2
    for task in ("hair", "region"):
        assert finished[task] > fmean(found[task]["fitted_everywhere"])
