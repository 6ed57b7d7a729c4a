"""The measurement behind the limits of agreement."""

from __future__ import annotations

import json

import torch

from benchmarks.learn.command import RESULTS
from benchmarks.learn.contradiction import MARKS, ratios
from pxpo_core.value import CHANCE, CLEAR


def rounds(signs: list[float]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Rounds that like the first channel or dislike it."""
    made = []
    for number, sign in enumerate(signs):
        latents = torch.randn((4, 3, 8, 8), generator=torch.Generator().manual_seed(number))
        maps = sign * latents[:, 0].sign()
        made.append((latents, maps.repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)))
    return made


def test_ratios_tell_agreement_from_contradiction():
    assert len(ratios(rounds([1.0, 1.0, 1.0]))) == 2
    assert min(ratios(rounds([1.0, 1.0, 1.0]))) > 0.5
    assert ratios(rounds([1.0, 0.0])) == [0.0]


def test_the_committed_figures_lie_where_the_limits_say():
    found = json.loads((RESULTS / "learn_contradiction.json").read_text(encoding="utf-8"))
    assert set(found) == set(MARKS)
    last = {marks: [ratio[-1] for ratio in seeds] for marks, seeds in found.items()}
    assert min(last["dislikes"] + last["likes and dislikes"] + last["25 % flip"]) > CLEAR
    assert max(last["50 % flip"]) < CHANCE
