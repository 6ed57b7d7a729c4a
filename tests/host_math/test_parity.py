"""The same x_T and the same noise give the host's own samplers' pictures, for every family."""

from __future__ import annotations

import family_checks as checks
import pytest
import torch
from small_models import Family, with_noise_scale

VP = ["sd15", "sd2v", "sd2v_zsnr", "sdxl", "edm", "cosmos_predict2"]
FLOW = ["unet_flow", "sd3", "flux", "chroma", "lumina2", "z_image", "qwen_image", "krea2",
        "ernie_image"]  # fmt: skip
TOLERANCE = 1e-4


@pytest.mark.parametrize("family", VP + FLOW, indirect=True)
def test_eta_0_is_the_hosts_euler(family: Family) -> None:
    assert checks.euler_difference(family) <= TOLERANCE


@pytest.mark.parametrize("family", VP, indirect=True)
@pytest.mark.parametrize("sampler", ["euler_ancestral", "ddpm"])
def test_eta_1_is_the_hosts_ancestral_sampler_and_ddpm(family: Family, sampler: str) -> None:
    # The host's ddpm divides by the noise level and multiplies again: more rounding.
    limit = 3 * TOLERANCE if sampler == "ddpm" else TOLERANCE
    assert checks.ancestral_difference(family, sampler) <= limit


@pytest.mark.parametrize("family", ["sd15", "sd2v", "edm"], indirect=True)
@pytest.mark.parametrize("scheduler", ["normal", "exponential", "sgm_uniform", "beta"])
def test_parity_holds_for_other_schedulers(family: Family, scheduler: str) -> None:
    sigmas = family.sigmas(scheduler)
    assert checks.ancestral_difference(family, sigmas=sigmas) <= TOLERANCE


@pytest.mark.parametrize("family", FLOW, indirect=True)
@pytest.mark.parametrize("host_eta", [0.5, 1.0])
def test_flow_covers_the_hosts_ancestral_sampler(family: Family, host_eta: float) -> None:
    """euler_ancestral_RF is our step with eta_t = std_RF / std(1), step by step with the same z."""
    assert checks.flow_ancestral_difference(family, host_eta) <= TOLERANCE


@pytest.mark.parametrize("family", ["unet_flow", "sd3"], indirect=True)
def test_models_with_more_noise_are_sampled_as_the_host_does(family: Family) -> None:
    """Newer flow models put a factor on fresh noise: x_T, our z and the host's all have it."""
    if not hasattr(family.model.get_model_object("model_sampling"), "set_noise_scale"):
        pytest.skip("this ComfyUI has no noise scale")
    noisy = with_noise_scale(family, 4.0)
    plain = family.hosts("euler_ancestral")
    assert checks.difference(noisy.hosts("euler_ancestral"), plain) > 0.1
    assert checks.euler_difference(noisy) <= TOLERANCE
    assert checks.flow_ancestral_difference(noisy, 1.0) <= TOLERANCE
    ours, hosts = checks.residual_noise(noisy)
    assert ours <= 1.05 * hosts


@pytest.mark.parametrize("family", ["sd15", "sd2v_zsnr", "edm", "sd3", "qwen_image"], indirect=True)
def test_pictures_at_eta_1_are_as_clean_as_the_hosts(family: Family) -> None:
    """With an exact denoiser of smooth pictures, whatever is rough is noise that was left."""
    ours, hosts = checks.residual_noise(family)
    assert ours <= 1.05 * hosts
    assert ours < 0.01


@pytest.mark.parametrize("family", VP + FLOW, indirect=True)
def test_a_seed_gives_the_same_picture_again(family: Family) -> None:
    assert torch.equal(family.ours(1.0), family.ours(1.0))
