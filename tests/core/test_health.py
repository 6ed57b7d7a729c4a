"""Signs that pictures fall apart, on pictures whose answer is known."""

import pytest
import torch

from pxpo_core.health import picture_signs, should_stop, warning_text, warnings


def pictures(count: int = 4, seed: int = 0) -> torch.Tensor:
    """Random patches of 4 pixels: edges, no noise, no limits reached."""
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randint(40, 216, (count, 8, 8, 3), generator=generator, dtype=torch.uint8)
    return patches.repeat_interleave(4, dim=1).repeat_interleave(4, dim=2)


def blurred(images: torch.Tensor) -> torch.Tensor:
    smooth = torch.nn.functional.avg_pool2d(images.permute(0, 3, 1, 2).float(), 9, 1, 4)
    return smooth.permute(0, 2, 3, 1).to(torch.uint8)


def entry(images: torch.Tensor, **more: object) -> dict[str, object]:
    return {**picture_signs(images).to_dict(), "prompt": "a", "signal": 0.2, **more}


def test_the_signs_of_a_flat_picture():
    signs = picture_signs(torch.full((2, 16, 12, 3), 100, dtype=torch.uint8))
    assert (signs.detail, signs.variety, signs.saturated) == (0.0, 0.0, 0.0)


def test_a_single_picture_has_no_variety():
    assert "variety" not in picture_signs(pictures(1)).to_dict()


def test_saturation_counts_pixels_not_channels():
    images = torch.full((1, 4, 4, 3), 100, dtype=torch.uint8)
    images[0, 0] = torch.tensor([255, 0, 100], dtype=torch.uint8)
    assert picture_signs(images).saturated == 0.25


def test_pictures_like_the_first_ones_are_no_reason_to_worry():
    history = [entry(pictures(seed=s)) for s in (1, 2)]
    assert warnings(entry(pictures(seed=3)), history, painted=False) == []
    assert warnings(entry(pictures()), [], painted=False) == []


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (blurred(pictures()), "fine detail"),
        (pictures() // 2 + torch.randint(0, 128, (4, 32, 32, 3)).to(torch.uint8), "noisy"),
        (pictures(1).expand(4, -1, -1, -1), "less from each other"),
        ((pictures() > 128).to(torch.uint8) * 255, "brightest or darkest"),
    ],
)
def test_what_falls_apart_is_named(images, said):
    history = [entry(pictures(seed=s)) for s in (1, 2)]
    assert any(said in text for text in warnings(entry(images), history, painted=False))


def test_an_exhausted_reward_is_said_for_rules_and_not_for_people():
    history = [entry(pictures(seed=1))]
    now = entry(pictures(seed=2), signal=0.01)
    assert "little left to learn" in warnings(now, history, painted=False)[0]
    assert warnings(now, history, painted=True) == []


def test_another_prompt_does_not_compare():
    history = [entry(pictures(seed=1))]
    now = entry(blurred(pictures(seed=2)), prompt="b")
    assert warnings(now, history, painted=False) == []


def test_rounds_made_before_these_signs_existed_do_not_compare():
    assert warnings(entry(blurred(pictures())), [{"reward_mean": 0.1}], painted=False) == []


def test_it_stops_at_the_second_warning_in_a_row():
    found = ["the pictures have lost 50% of their fine detail"]
    assert not should_stop(found, {}, [])
    assert not should_stop(found, {}, [{"warnings": found}, {"warnings": []}])
    assert should_stop(found, {}, [{"warnings": []}, {"warnings": found}])
    assert not should_stop([], {}, [{"warnings": found}])


def test_signals_of_different_rewards_do_not_compare():
    """A region's rule is weaker than marks, which is no sign that little is left to learn."""
    marks = [entry(pictures(), signal=0.4, reward="painted")] * 2
    rule = entry(pictures(), signal=0.02, reward="less blue")
    assert warnings(rule, marks, painted=False) == []
    weaker = entry(pictures(), signal=0.001, reward="less blue")
    assert "nearly the same reward" in warnings(weaker, [*marks, rule, rule], painted=False)[0]


def test_a_model_far_away_stops_at_once():
    began = [entry(pictures(), drift=0.0)]
    far = entry(pictures(), drift=0.2)
    found = warnings(far, began, painted=False)
    assert should_stop(found, far, began)
    near = entry(pictures(), drift=0.08)
    found = warnings(near, began, painted=False)
    assert found
    assert not should_stop(found, near, began)
    once = [*began, {"warnings": found}]
    assert not should_stop(found, near, once), "a model that learns moves"


def test_a_run_that_starts_from_a_lora_is_measured_from_there():
    start = entry(pictures(), drift=0.3)
    assert warnings(start, [], painted=False) == []
    assert not should_stop([], start, [])
    near, far = entry(pictures(), drift=0.33), entry(pictures(), drift=0.45)
    assert warnings(near, [start], painted=False) == []
    found = warnings(far, [start, near], painted=False)
    assert found
    assert should_stop(found, far, [start, near])


def test_texts_say_what_to_do():
    assert warning_text([], False) == ""
    assert "learning_rate" in warning_text(["x"], False)
    assert "auto_stop" in warning_text(["x"], True)


def test_the_distance_to_the_base_model_is_that_of_these_pictures():
    before = [entry(pictures(seed=1), drift=0.0), entry(pictures(seed=1), drift=1.0)]
    assert warnings(entry(pictures(seed=2), drift=1e-3), before, painted=False) == []
    assert "base model" in warnings(entry(pictures(seed=2), drift=1.0), before, painted=False)[0]
