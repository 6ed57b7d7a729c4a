"""What a run remembers between rounds: its scale and its usual reward."""

from dataclasses import replace

import pytest
import torch

from pxpo_core.credit import leave_one_out
from pxpo_core.reward import PixelReward
from pxpo_core.round import RewardMemory, round_advantages, worth_foreseeing

SIZE = (4, 4)


def reward(batch: int, seed: int = 0, size: float = 1.0, **changes: object) -> PixelReward:
    values = size * torch.randn((batch, 32, 32), generator=torch.Generator().manual_seed(seed))
    pictures = torch.zeros((batch, 8, 8, 3), dtype=torch.uint8)
    fields = {"reviewed": torch.ones(batch, dtype=torch.bool), "painted": False, **changes}
    return PixelReward(values, pictures, "rule", **fields)


def means(made: PixelReward) -> torch.Tensor:
    return made.map.reshape(-1, 4, 8, 4, 8).mean(dim=(2, 4))


@pytest.mark.parametrize("painted", [False, True])
def test_a_memory_survives_being_written_down(painted: bool):
    _, memory = round_advantages([reward(4, painted=painted)], SIZE, RewardMemory(painted), 0.0)
    again = RewardMemory.load(*memory.add_to({"images_total": 4}, {}), painted)
    assert again.scale == memory.scale
    assert torch.equal(again.running, memory.running)
    assert RewardMemory.load({}, {}, painted) == RewardMemory(painted)
    assert RewardMemory(painted).add_to({}, {}) == ({}, {})


def test_painted_and_automatic_memories_live_side_by_side():
    _, automatic = round_advantages([reward(4)], SIZE, RewardMemory(), 0.0)
    _, painted = round_advantages([reward(4, 1, 9.0)], SIZE, RewardMemory(painted=True), 0.0)
    state, tensors = painted.add_to(*automatic.add_to({}, {}))
    for memory in (automatic, painted):
        again = RewardMemory.load(state, tensors, memory.painted)
        assert again.scale == memory.scale
        assert torch.equal(again.running, memory.running)


def test_the_first_round_sets_the_scale_for_good():
    _, first = round_advantages([reward(4)], SIZE, RewardMemory(), 0.0)
    (later,), second = round_advantages([reward(4, 1, size=0.1)], SIZE, first, 0.0)
    assert second.scale == first.scale
    assert later.strength == pytest.approx(0.1, rel=0.3)


def test_the_running_map_is_a_moving_average():
    made = [reward(4), reward(4, 1)]
    _, first = round_advantages([made[0]], SIZE, RewardMemory(), 0.0)
    torch.testing.assert_close(first.running, means(made[0]).mean(dim=0))
    _, second = round_advantages([made[1]], SIZE, first, 0.0)
    expected = 0.9 * first.running + 0.1 * means(made[1]).mean(dim=0)
    torch.testing.assert_close(second.running, expected)


def test_a_single_picture_is_compared_to_earlier_rounds():
    start = RewardMemory(painted=True)
    _, memory = round_advantages([reward(4, painted=True)], SIZE, start, 0.0)
    single = reward(1, 2, size=3.0, painted=True)
    (advantage,), _ = round_advantages([single], SIZE, memory, 0.0)
    expected = (means(single) - memory.running).clamp(-5.0, 5.0)
    torch.testing.assert_close(advantage.values, expected)


@pytest.mark.parametrize("painted", [True, False])
def test_a_single_picture_may_be_marked_again(painted: bool):
    """With a value the run's usual map is no baseline: the same marks are still worth learning."""
    memory, made = RewardMemory(painted), reward(1, painted=painted)
    latents = torch.randn((1, 1, 3, *SIZE), generator=torch.Generator().manual_seed(1))
    for _ in range(4):
        (advantage,), memory = round_advantages([made], SIZE, memory, 0.0, [latents])
        assert advantage.strength == pytest.approx(1.0)
        assert not advantage.is_zero


def test_pictures_nobody_looked_at_do_not_enter_the_memory():
    looked = torch.tensor([True, False, True, False])
    made = reward(4, painted=True, reviewed=looked)
    (advantage,), memory = round_advantages([made], SIZE, RewardMemory(painted=True), 0.0)
    torch.testing.assert_close(memory.running, means(made)[looked].mean(dim=0))
    assert advantage.values[~looked].abs().sum() == 0
    unseen = reward(4, 1, painted=True, reviewed=torch.zeros(4, dtype=torch.bool))
    (nothing,), kept = round_advantages([unseen], SIZE, memory, 0.0)
    assert nothing.is_zero
    assert kept == memory


def test_each_rollout_is_a_prompt_group():
    first, second = reward(4), reward(5, 1)
    (a, b), _ = round_advantages([first, second], SIZE, RewardMemory(), 0.0)
    assert a.run_scale == b.run_scale
    whole = torch.cat([leave_one_out(means(first)), leave_one_out(means(second))])
    rms = whole.square().mean().sqrt()
    torch.testing.assert_close(torch.cat([a.values, b.values]), whole / rms)


def test_another_picture_size_starts_the_running_map_again():
    _, memory = round_advantages([reward(4)], SIZE, RewardMemory(), 0.0)
    made = reward(1, 1)
    (advantage,), after = round_advantages([made], (2, 2), memory, 0.0)
    assert advantage.values.shape == (1, 2, 2)
    assert after.running.shape == (2, 2)


def pictures(batch: int, seed: int) -> torch.Tensor:
    """Finished pictures [1, B, C, h, w], as predictions without a path."""
    return torch.randn((1, batch, 3, *SIZE), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("painted", [False, True])
def test_what_is_liked_becomes_clearer_from_round_to_round(painted: bool):
    """What is written down goes on exactly as what was kept; the other kind's stays as it is."""
    other = RewardMemory(not painted)
    _, other = round_advantages(
        [reward(4, painted=not painted)], SIZE, other, 0.0, [pictures(4, 9)]
    )
    state, tensors = other.add_to({}, {})
    memory = RewardMemory(painted)
    for number in range(3):
        made = [pictures(4, number)]
        again = RewardMemory.load(state, tensors, painted)
        given = reward(4, number, painted=painted)
        (kept,), memory = round_advantages([given], SIZE, memory, 0.0, made)
        (loaded,), again = round_advantages([given], SIZE, again, 0.0, made)
        assert torch.equal(kept.foresight.earned, loaded.foresight.earned)
        assert torch.equal(memory.liked.gram, again.liked.gram)
        state, tensors = memory.add_to(state, tensors)
    alone = round_advantages([given], SIZE, RewardMemory(painted), 0.0, made)[1]
    assert not torch.equal(memory.liked.moments, alone.liked.moments)
    assert torch.equal(RewardMemory.load(state, tensors, not painted).liked.gram, other.liked.gram)


def test_painted_marks_count_for_what_they_say_together():
    """Of a mark that nothing explains a person's says a tenth of what a rule's says."""
    made, given = [pictures(4, 0)], reward(4, 1)
    rests = []
    for painted in (False, True):
        feedback = reward(4, 1, painted=painted)
        (advantage,), memory = round_advantages([feedback], SIZE, RewardMemory(painted), 0.0, made)
        believed = 1.0 if painted else memory.liked.reliability
        explained = memory.liked.fitted(believed)(made[0][0])
        rests.append((advantage.foresight.earned - explained, means(given) - explained))
    (rule, unexplained), (person, unsaid) = rests
    torch.testing.assert_close(rule, leave_one_out(unexplained))
    torch.testing.assert_close(person, 0.1 * leave_one_out(unsaid))


def test_what_a_rule_is_foreseen_to_say_counts_as_far_as_it_can_be_foreseen():
    made, given = [pictures(4, 0)], reward(4, 1)
    (advantage,), memory = round_advantages([given], SIZE, RewardMemory(), 0.0, made)
    assert advantage.reliability == memory.liked.reliability < 0.5, "rewards by chance"
    guess = memory.liked.fitted()(made[0][0])
    torch.testing.assert_close(
        advantage.foresight.value(made[0][0]), memory.liked.reliability * guess
    )


def test_a_rule_is_foreseen_where_it_tells_pictures_apart_and_a_person_everywhere():
    maps = torch.zeros(4, *SIZE)
    maps[:, 0] = torch.arange(4.0)[:, None]
    assert worth_foreseeing(maps).tolist() == [[True] * SIZE[1]] + [[False] * SIZE[1]] * (
        SIZE[0] - 1
    )
    assert bool(worth_foreseeing(maps[:1]).all()), "one picture: nothing to compare"
    assert bool(worth_foreseeing(torch.ones(4, *SIZE)).all()), "nothing differs"
    given = torch.repeat_interleave(torch.repeat_interleave(maps, 8, dim=1), 8, dim=2)
    for painted, places in ((False, SIZE[1]), (True, SIZE[0] * SIZE[1])):
        feedback = replace(reward(4, 0, painted=painted), map=given)
        _, memory = round_advantages([feedback], SIZE, RewardMemory(painted), 0.0, [pictures(4, 0)])
        assert memory.liked.gram[-1, -1] == 4 * places


@pytest.mark.parametrize("painted", [False, True])
def test_a_person_who_marks_by_chance_moves_the_model_less(painted: bool):
    """A rule means what it says, also where nothing foresees it."""
    memory = RewardMemory(painted)
    for number in range(6):
        given = reward(4, number, painted=painted)
        (advantage,), memory = round_advantages([given], SIZE, memory, 0.0, [pictures(4, number)])
    assert advantage.agreement == (memory.liked.agreement if painted else 1.0)
    assert memory.liked.agreement < 0.5
    (whole,), _ = round_advantages([reward(4, 7, painted=painted)], SIZE, memory, 0.0)
    assert whole.agreement == 1.0, "without a value nothing is compared"
    relative = min(1.0, advantage.rms / advantage.run_scale)
    assert advantage.strength == pytest.approx(relative * advantage.agreement)


def test_a_round_nobody_looked_at_earns_nothing_and_keeps_what_is_liked():
    start = RewardMemory(painted=True)
    _, memory = round_advantages([reward(4, painted=True)], SIZE, start, 0.0, [pictures(4, 0)])
    unseen = reward(4, 1, painted=True, reviewed=torch.zeros(4, dtype=torch.bool))
    (nothing,), kept = round_advantages([unseen], SIZE, memory, 0.0, [pictures(4, 1)])
    assert nothing.is_zero
    assert not nothing.at(0).any()
    assert kept is memory
