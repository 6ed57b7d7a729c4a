"""Sampling, replay with gradients, training and saving through the real host, for every family."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import family_checks as checks
import pytest
import torch
from small_models import Family

FAMILIES = ["sd15", "sd2v", "sdxl", "edm", "unet_flow", "sd3", "flux", "chroma", "lumina2",
            "z_image", "qwen_image", "cosmos_predict2", "krea2", "ernie_image"]  # fmt: skip
IN_PLACE = ("flux", "flux2", "chroma")
every_family = pytest.mark.parametrize("family", FAMILIES, indirect=True)


@every_family
def test_the_first_ratio_is_exactly_one(family: Family) -> None:
    """Replayed with gradients, every mean has the bits it was sampled with."""
    assert checks.largest_log_ratio(family, checks.learned_policy(family), family.batch) == 0.0


@pytest.mark.parametrize("family", ["sdxl", "flux", "qwen_image"], indirect=True)
def test_another_micro_batch_moves_the_ratio_by_rounding_only(family: Family) -> None:
    policy = checks.learned_policy(family)
    for micro_batch in (1, 2):
        assert checks.largest_log_ratio(family, policy, micro_batch) < 5e-4


@pytest.mark.parametrize("precise", FAMILIES, indirect=True)
def test_the_update_direction_equals_finite_differences(precise: Family) -> None:
    """In float64, along the gradient and across it; also where the blocks work in place."""
    assert checks.gradient_error(precise, directions=1) < 1e-3


@pytest.mark.parametrize(
    "precise",
    ["sdxl", "sd3", "flux", "qwen_image", "cosmos_predict2", "ernie_image"],
    indirect=True,
)
def test_the_update_direction_with_checkpointing(precise: Family) -> None:
    from pxpo_core.backends.comfy.backward import Backward

    backward = Backward(copies=precise.name in IN_PLACE, checkpointing=True)
    assert checks.gradient_error(precise, directions=1, backward=backward) < 1e-3


@pytest.mark.parametrize("precise", ["flux"], indirect=True)
def test_the_check_is_red_when_work_in_place_is_not_seen(
    precise: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch refuses a second such graph; the first one's gradient was wrong without a word."""
    from pxpo_core.backends.comfy.in_place import SavedTensors

    monkeypatch.setattr(SavedTensors, "overwritten", False)
    with pytest.raises(RuntimeError, match="inplace operation"):
        checks.gradient_error(precise, directions=1)


@every_family
def test_models_that_work_in_place_are_known(family: Family) -> None:
    assert checks.works_in_place(family) == (family.name in IN_PLACE)


@every_family
def test_a_round_trains_and_leaves_no_trace(family: Family) -> None:
    policy = checks.learned_policy(family)
    with checks.untouched(family):
        result = checks.train_once(family, policy)
    moved = [(result.policy.tensors[n] - t).abs().max() for n, t in policy.tensors.items()]
    assert max(moved) > 1e-4


@every_family
def test_the_hosts_loader_applies_a_saved_lora_in_full(family: Family, tmp_path: Path) -> None:
    assert checks.file_difference(family, checks.learned_policy(family), tmp_path) < 1e-3


@every_family
def test_every_choice_of_layers_finds_some(family: Family) -> None:
    found = [
        len(checks.learned_policy(family, target=target).layers)
        for target in ("attention", "attention and feed-forward", "all layers")
    ]
    assert 0 < found[0] <= found[1] <= found[2]


@pytest.mark.parametrize("family", ["sdxl", "flux", "lumina2"], indirect=True)
@pytest.mark.parametrize("prompts", [2, 3])
def test_a_part_of_the_batch_keeps_its_own_prompts(family: Family, prompts: int) -> None:
    """The host deals prompts out in turn; each sample replays with the one it was sampled with."""
    other = [text + 0.5 * number for number in range(prompts) for text in (family.positive[0][0],)]
    positive = [[torch.cat(other), dict(family.positive[0][1])]]
    several = replace(family, positive=positive, batch=4)
    assert checks.difference(several.ours(0.0)[1:2], replace(family, batch=4).ours(0.0)[1:2]) > 0.01
    policy = checks.learned_policy(several)
    assert checks.largest_log_ratio(several, policy, 3) < 5e-4


@pytest.mark.parametrize("parametrisation", ["IMG_TO_IMG", "IMG_TO_IMG_FLOW", "V_PREDICTION_DDPM"])
@pytest.mark.parametrize("family", ["sd3"], indirect=True)
def test_other_parametrisations_are_refused_by_name(family: Family, parametrisation: str) -> None:
    import comfy.model_sampling as host

    from pxpo_core.backends.comfy.host_model import noise_family

    if not hasattr(host, parametrisation):
        pytest.skip(f"this ComfyUI has no {parametrisation}")

    class ModelSampling(host.ModelSamplingDiscreteFlow, vars(host)[parametrisation]):  # type: ignore[misc]
        pass

    model: Any = family.model.clone()
    model.add_object_patch("model_sampling", ModelSampling())
    with pytest.raises(ValueError, match=rf"cannot train.*\(its sampling is {parametrisation}\)"):
        noise_family(model)
