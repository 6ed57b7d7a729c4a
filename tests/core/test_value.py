"""The guess of what is liked: what it remembers, averages and forgets."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from quick_value import fit_value
from torch import Tensor

from pxpo_core.value import ValueSums

SHAPE = (4, 3, 12, 12)


def pictures(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


def wish(latents: torch.Tensor) -> torch.Tensor:
    return 0.7 * latents[:, 0] - 0.3 * latents[:, 2].relu()


def flipped(maps: torch.Tensor, seed: int, share: float = 0.25) -> torch.Tensor:
    """Whole pictures with the opposite sign, or in part: squares of 4 by 4."""
    generator = torch.Generator().manual_seed(seed)
    wrong = torch.rand((len(maps), 3, 3), generator=generator) < share
    signs = 1.0 - 2.0 * wrong.to(maps)
    return maps * signs.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)


def likeness(sums: ValueSums) -> float:
    """Correlation of the guess with the wish on pictures nobody has seen."""
    unseen = pictures(99)
    both = torch.stack([sums.fitted()(unseen).flatten(), wish(unseen).flatten()])
    return float(torch.corrcoef(both)[0, 1])


def test_wrong_marks_average_out_over_the_rounds():
    sums = ValueSums.begin(pictures(0))
    found = []
    for number in range(8):
        sums = sums.after(pictures(number), flipped(wish(pictures(number)), number))
        found.append(likeness(sums))
    assert found[0] < 0.7
    assert found[7] > 0.9


def test_who_changed_their_mind_is_not_held_to_what_they_said():
    sums = ValueSums.begin(pictures(0))
    for number in range(5):
        sums = sums.after(pictures(number), wish(pictures(number)))
    assert likeness(sums) > 0.95
    again = sums.of_round(pictures(5), wish(pictures(5)))
    opposite = sums.of_round(pictures(5), -wish(pictures(5)))
    assert (again.opposite, opposite.opposite) == (False, True)
    changed = sums.with_round(opposite)
    assert likeness(changed) < -0.9
    alone = ValueSums.begin(pictures(0)).after(pictures(5), -wish(pictures(5)))
    assert torch.equal(changed.gram, alone.gram)
    assert changed.agreement == 1.0


def test_who_asks_for_something_else_does_not_say_the_opposite():
    """Earlier rounds liked one half of the pictures, this one dislikes the other: both count."""
    left = torch.zeros(12, 12)
    left[:, :6] = 1.0
    sums = ValueSums.begin(pictures(0))
    for number in range(3):
        sums = sums.after(pictures(number), left.expand(4, -1, -1))
    other = sums.of_round(pictures(5), -(1.0 - left).expand(4, -1, -1))
    assert not other.opposite
    both = sums.with_round(other)
    assert both.agreement == sums.agreement == 1.0
    guess = both.fitted()(pictures(9)).mean(dim=0)
    assert float(guess[:, :4].mean()) > 0.5
    assert float(guess[:, 8:].mean()) < -0.2
    assert sums.of_round(pictures(5), -left.expand(4, -1, -1)).opposite


def after_rounds(count: int, share: float, given: Callable[[Tensor], Tensor] = wish) -> float:
    """The agreement of some rounds of which a share of the squares has the wrong sign."""
    sums = ValueSums.begin(pictures(0))
    for number in range(count):
        sums = sums.after(pictures(number), flipped(given(pictures(number)), number, share))
    return sums.agreement


def test_rounds_agree_as_far_as_their_signs_do():
    assert after_rounds(8, 0.0) == 1.0
    assert after_rounds(8, 0.25) > 0.5
    assert after_rounds(8, 0.5) < 0.2


def test_marks_of_one_sign_agree_however_little_can_be_foreseen():
    def anywhere(latents: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(int(latents.sum() * 1000))
        return -torch.rand(latents[:, 0].shape, generator=generator)

    assert after_rounds(4, 0.0, anywhere) == 1.0


def test_a_first_round_has_nothing_to_agree_with():
    sums = ValueSums.begin(pictures(0))
    assert sums.agreement == 1.0
    assert sums.after(pictures(0), flipped(wish(pictures(0)), 0, 0.5)).agreement == 1.0
    blank = sums.after(pictures(0), torch.zeros(4, 12, 12))
    assert blank.after(pictures(1), wish(pictures(1))).agreement == 1.0


def test_a_guess_is_better_where_it_has_nothing_else_to_fit():
    """A rule that looks at a corner only: to fit the rest as well costs the corner."""
    corner = torch.zeros(12, 12, dtype=torch.bool)
    corner[:4, :5] = True
    anywhere = inside = ValueSums.begin(pictures(0))
    for number in range(4):
        maps = wish(pictures(number)) * corner
        anywhere = anywhere.after(pictures(number), maps)
        inside = inside.after(pictures(number), maps, corner)
    assert float(inside.gram[-1, -1]) < 0.2 * float(anywhere.gram[-1, -1])
    unseen = pictures(99)

    def error(sums: ValueSums) -> float:
        return float((sums.fitted()(unseen) - wish(unseen))[:, corner].square().mean())

    assert error(inside) < 0.5 * error(anywhere)


def by_chance(seed: int) -> Tensor:
    return torch.randn((4, 12, 12), generator=torch.Generator().manual_seed(1000 + seed))


def test_a_guess_is_as_reliable_as_left_out_pictures_say():
    clear = blind = ValueSums.begin(pictures(0))
    for number in range(3):
        clear = clear.after(pictures(number), wish(pictures(number)))
        blind = blind.after(pictures(number), by_chance(number))
        assert clear.reliability > 0.95
        assert blind.reliability < 0.2


def test_of_an_uncertain_guess_a_share_foresees_new_pictures_better_than_all_or_nothing():
    sums = ValueSums.begin(pictures(0))
    for number in range(4):
        maps = wish(pictures(number)) + 5.0 * by_chance(number)
        sums = sums.after(pictures(number), maps)
    share, unseen = sums.reliability, pictures(99)

    def error(part: float) -> float:
        return float((sums.fitted(part)(unseen) - wish(unseen)).square().mean())

    assert 0.1 < share < 0.9
    assert error(share) < min(error(0.0), error(1.0))


def test_one_picture_alone_cannot_be_foreseen():
    """Nor one that says the opposite of all before it, as these are forgotten then."""
    first, second = pictures(0)[:1], pictures(1)[:1]
    sums = ValueSums.begin(first).after(first, wish(first))
    assert sums.borne_out.tolist() == [0.0, 0.0]
    assert sums.reliability == 1.0
    known = sums.after(second, by_chance(1)[:1])
    assert bool(known.borne_out.isfinite().all())
    assert known.reliability < 0.5
    opposite = sums.of_round(second, -wish(second))
    assert opposite.opposite
    assert sums.with_round(opposite).borne_out.tolist() == [0.0, 0.0]


def test_a_guess_of_something_else_is_not_held_against_a_new_wish():
    sums = ValueSums.begin(pictures(0))
    for number in range(4):
        sums = sums.after(pictures(number), wish(pictures(number)))
    assert sums.after(pictures(5), -wish(pictures(5))).reliability > 0.95


def test_an_earlier_round_counts_less_with_every_later_one():
    first = ValueSums.begin(pictures(0)).after(pictures(0), wish(pictures(0)))
    own = ValueSums.begin(pictures(0)).after(pictures(1), wish(pictures(1)))
    second = first.after(pictures(1), wish(pictures(1)))
    torch.testing.assert_close(second.gram, 0.9 * first.gram + own.gram)
    torch.testing.assert_close(second.moments, 0.9 * first.moments + own.moments)


def test_pictures_of_another_size_teach_too():
    large = torch.randn((1, 3, 40, 8), generator=torch.Generator().manual_seed(3))
    sums = ValueSums.begin(pictures(0)).after(pictures(0), wish(pictures(0)))
    assert sums.after(large, wish(large)).fitted()(large).shape == (1, 40, 8)


@pytest.mark.parametrize("size", [(8, 8), (1, 1), (5, 33)])
def test_few_pixels_give_few_features_and_finite_guesses(size: tuple[int, int]):
    latents = torch.randn((1, 4, *size), generator=torch.Generator().manual_seed(1))
    sums = ValueSums.begin(latents)
    assert len(sums.shift) == size[0] * size[1] // 8
    assert bool(fit_value(latents, latents[:, 0])(latents).isfinite().all())


def test_what_was_written_down_is_read_back():
    sums = ValueSums.begin(pictures(0)).after(pictures(0), wish(pictures(0)))
    written = sums.tensors("a.")
    again = ValueSums.load({**written, "b.gram": torch.zeros(1)}, "a.")
    assert again is not None
    assert all(torch.equal(tensor, again.tensors("a.")[name]) for name, tensor in written.items())
    assert ValueSums.load(written, "b.") is None
    older = {name: tensor for name, tensor in written.items() if name != "a.borne_out"}
    assert ValueSums.load(older, "a.").reliability == 1.0, "runs of older versions go on"
    del written["a.mix"]
    assert ValueSums.load(written, "a.") is None
