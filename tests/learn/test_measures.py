"""Measures of pictures and advantages of rivals, each against a case with a known answer."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks.learn import measures
from benchmarks.learn.advantages import Credit, PromptStatistics
from benchmarks.learn.judge import CLASSES
from benchmarks.learn.methods import METHODS
from benchmarks.learn.prompts import (
    COLOURED_HELD_OUT,
    COLOURED_TRAINING,
    HELD_OUT,
    TRAINING,
    interleaved,
    spread,
)
from benchmarks.learn.validity import valid_faces
from demo.toy_faces.captions import parse_caption


def normal(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frechet_distance_of_shifted_and_stretched_gaussians() -> None:
    a = normal(4000, 3, 1)
    assert measures.frechet_distance(a, a) == pytest.approx(0.0, abs=1e-8)
    assert measures.frechet_distance(a, a + 2.0) == pytest.approx(12.0, rel=1e-6)
    # Doubling keeps the axes: sum of (2 sd - sd)^2 over the covariance's eigenvalues.
    doubled = measures.frechet_distance(a - a.mean(0), 2.0 * (a - a.mean(0)))
    assert doubled == pytest.approx(float(a.var(dim=0, correction=0).sum()), rel=1e-6)


def test_frechet_weights_are_repetitions() -> None:
    a, b = normal(50, 4, 1), normal(6, 4, 2)
    counts = torch.tensor([1, 2, 3, 1, 1, 2])
    weighted = measures.frechet_distance(a, b, counts)
    repeated = measures.frechet_distance(a, b.repeat_interleave(counts, dim=0))
    assert weighted == pytest.approx(repeated, rel=1e-9)


@pytest.mark.parametrize("target", [-1.0, 0.1, 0.5, 0.83, 2.0])
def test_tilt_reaches_the_mean_or_the_nearest_value(target: float) -> None:
    values = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = measures.tilt_weights(values, target)
    reached = float(weights @ values)
    assert float(weights.sum()) == pytest.approx(1.0)
    assert reached == pytest.approx(min(max(target, float(values.min())), float(values.max())))


def test_untilted_weights_are_worth_every_sample() -> None:
    values = torch.rand(400, generator=torch.Generator().manual_seed(0))
    assert measures.effective_count(measures.tilt_weights(values, float(values.mean()))) > 399.9
    assert measures.effective_count(measures.tilt_weights(values, 0.9)) < 200.0


def test_detail_sees_edges_and_not_brightness() -> None:
    flat = torch.full((2, 16, 16, 3), 0.5)
    stripes = flat.clone()
    stripes[:, ::2] = 1.0
    assert measures.detail(flat) == measures.detail(flat + 0.3) == 0.0
    assert measures.detail(stripes) == pytest.approx(0.5, rel=1e-5)


def test_diversity_is_the_mean_distance_of_two_different_pictures() -> None:
    assert measures.diversity(torch.tensor([[0.0], [3.0], [3.0]])) == pytest.approx(2.0)


def test_locality_leaves_the_band_out_and_knows_no_outside_of_everything() -> None:
    before = torch.zeros(1, 64, 64, 3)
    marked = torch.zeros(1, 64, 64, dtype=torch.bool)
    marked[:, :16] = True
    after = before.clone()
    after[:, :16], after[:, 16:32], after[:, 32:] = 0.6, 0.9, 0.2
    inside, outside = measures.locality(before, after, marked, band=16)
    assert (inside, outside) == (pytest.approx(0.6), pytest.approx(0.2))
    assert math.isnan(measures.locality(before, after, ~marked | marked)[1])


def test_prompt_following_counts_only_what_prompts_name() -> None:
    seen = {"skin": ["dark", "tan", "tan"], "mouth": ["smiling", "smiling", "neutral"]}
    found = measures.prompt_following(
        seen, ["dark skin", "light skin", "portrait, neutral"], ("skin", "mouth", "hair_style")
    )
    assert found == {"skin": 0.5, "mouth": 1.0}


def face(eyes: bool = True, mouth: bool = True, mouth_row: int = 78) -> torch.Tensor:
    labels = torch.zeros(1, 128, 128, dtype=torch.uint8)
    if eyes:
        for column in (46, 70):
            labels[0, 52:64, column : column + 12] = CLASSES.index("eye")
    if mouth:
        labels[0, mouth_row : mouth_row + 4, 58:70] = CLASSES.index("mouth")
    return labels


def test_a_face_has_two_eyes_and_a_mouth_below() -> None:
    one_eye = face()
    one_eye[0, :, 64:][one_eye[0, :, 64:] == CLASSES.index("eye")] = 0
    cases = [face(), face(eyes=False), face(mouth=False), face(mouth_row=20), one_eye]
    assert valid_faces(torch.cat(cases)).tolist() == [True, False, False, False, False]


def test_prompts_name_neither_hair_nor_colours_and_are_not_shared() -> None:
    assert not set(TRAINING) & set(HELD_OUT)
    for prompt in (*TRAINING, *HELD_OUT):
        assert set(parse_caption(prompt)) <= {"skin", "mouth"}


def test_alignment_asks_for_the_same_colours_in_other_prompts() -> None:
    def colours(asked: tuple[str, ...]) -> list[str]:
        return sorted(parse_caption(prompt)["hair_colour"] for prompt in asked)

    assert not set(COLOURED_TRAINING) & set(COLOURED_HELD_OUT)
    assert colours(COLOURED_TRAINING) == colours(COLOURED_HELD_OUT)


def test_prompts_are_used_equally_often() -> None:
    assert spread(TRAINING, 8) == [p for p in TRAINING for _ in range(2)]
    assert interleaved(HELD_OUT, 16) == [*HELD_OUT, *HELD_OUT]


def test_ddpo_statistics_follow_each_prompt_once_it_is_known() -> None:
    statistics = PromptStatistics()
    few = torch.tensor([1.0, 3.0])
    assert statistics.normalise(["a", "b"], few).tolist() == pytest.approx([-1.0, 1.0], abs=1e-4)
    many = torch.arange(16.0)
    own = statistics.normalise(["a"] * 16, many)
    seen = torch.cat([few[:1], many])
    expected = (many - seen.mean()) / seen.std(correction=0)
    torch.testing.assert_close(own, expected, atol=1e-4, rtol=1e-4)


def credit_of(method: str, rewards: torch.Tensor) -> torch.Tensor:
    images = torch.zeros(*rewards.shape, 3)
    asked = spread(TRAINING, len(rewards))
    return Credit(METHODS[method], (8, 8)).advantage(rewards, images, asked).values


def test_advantages_of_the_methods() -> None:
    rewards = torch.rand(16, 32, 32, generator=torch.Generator().manual_seed(0)) - 1.0
    ddpo, improved = credit_of("ddpo", rewards), credit_of("ddpo_improved", rewards)
    for scalar in (ddpo, improved):
        torch.testing.assert_close(scalar, scalar[:, :1, :1].expand_as(scalar))
    # No baseline: every pixel of a punished picture is punished.
    assert (credit_of("pxpo", rewards) < 0).all()
    ours = credit_of("default", rewards)
    torch.testing.assert_close(ours[:4].mean(0), torch.zeros(8, 8), atol=1e-5, rtol=0)
    assert float(ours.square().mean()) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("judged", [False, True])
def test_without_a_baseline_steps_still_get_their_own_part(judged: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    rewards = torch.rand(4, 32, 32, generator=generator) - 1.0
    made = torch.randn(4, 4, 2, 8, 8, generator=generator)
    seen = torch.rand(3, 4, 32, 32, generator=generator) if judged else None
    credit = Credit(METHODS["baseline_none"], (8, 8))
    advantage = credit.advantage(rewards, torch.zeros(4, 32, 32, 3), ["a"] * 4, made, seen)
    assert advantage.by_step is not None
    assert advantage.by_step.shape == (3, 4, 8, 8)
    assert (advantage.values < 0).all()
    assert not torch.equal(advantage.at(0), advantage.at(2))


def test_without_a_baseline_the_value_still_knows_the_earlier_rounds() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(4, 32, 32, generator=generator) - 1.0 for _ in range(2))
    made = torch.randn(4, 4, 2, 8, 8, generator=generator)
    by_step = {}
    for rounds in ([second], [first, second]):
        credit = Credit(METHODS["baseline_none"], (8, 8))
        for rewards in rounds:
            advantage = credit.advantage(rewards, torch.zeros(4, 32, 32, 3), ["a"] * 4, made)
        assert advantage.by_step is not None
        by_step[len(rounds)] = advantage.by_step * advantage.run_scale
    assert not torch.allclose(by_step[1], by_step[2])
