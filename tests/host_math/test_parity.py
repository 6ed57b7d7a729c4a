"""The same x_T and the same noise give the host's own samplers' pictures, for every family.

All differences are the largest over the latent, relative to the latent's standard deviation.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from pxpo_core.transition import make_step

VP = ["sd15_eps", "sdxl_eps", "v_prediction", "v_prediction_zsnr", "edm"]
FLOW = ["unet_flow", "sd3", "flux"]
TOLERANCE = 1e-4


def difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    assert float(theirs.std()) > 1e-2
    return float((ours - theirs).abs().max() / theirs.std())


@pytest.mark.parametrize("family", VP + FLOW, indirect=True)
def test_eta_0_is_the_hosts_euler(family: Any) -> None:
    assert difference(family.ours(0.0), family.hosts("euler")) <= TOLERANCE


@pytest.mark.parametrize("family", VP, indirect=True)
@pytest.mark.parametrize("sampler", ["euler_ancestral", "ddpm"])
def test_eta_1_is_the_hosts_ancestral_sampler_and_ddpm(family: Any, sampler: str) -> None:
    assert difference(family.ours(1.0), family.hosts(sampler)) <= TOLERANCE


@pytest.mark.parametrize("family", ["sd15_eps", "v_prediction", "edm"], indirect=True)
@pytest.mark.parametrize("scheduler", ["normal", "exponential", "sgm_uniform", "beta"])
def test_parity_holds_for_other_schedulers(family: Any, scheduler: str) -> None:
    sigmas = family.sigmas(scheduler)
    ours = family.ours(1.0, sigmas)
    assert difference(ours, family.hosts("euler_ancestral", sigmas)) <= TOLERANCE


@pytest.mark.parametrize("family", FLOW, indirect=True)
@pytest.mark.parametrize("host_eta", [0.5, 1.0])
def test_flow_covers_the_hosts_ancestral_sampler(family: Any, host_eta: float) -> None:
    """euler_ancestral_RF is our step with eta_t = std_RF / std(1), step by step with the same z."""
    import comfy.k_diffusion.sampling as host

    sigmas = family.sigmas().double()
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    class Recorder:
        """The model, as the host's samplers call it, noting every state and prediction."""

        def __init__(self) -> None:
            self.inner_model = self

        def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **_: Any) -> torch.Tensor:
            denoised = torch.tanh(x) * (1.0 - 0.3 * float(sigma[0]))
            seen.append((x, denoised))
            return denoised

    noise = family.noise().double()
    queue = iter(noise[1:])
    result = host.sample_euler_ancestral_RF(
        Recorder(), noise[0], sigmas, disable=True, eta=host_eta,
        noise_sampler=lambda sigma, sigma_next: next(queue),
    )  # fmt: skip
    states = [x for x, _ in seen] + [result]
    for i, (x, denoised) in enumerate(seen[:-1]):
        sigma_t, sigma_s = float(sigmas[i]), float(sigmas[i + 1])
        down = sigma_s * (1.0 + (sigma_s / sigma_t - 1.0) * host_eta)
        c = (1.0 - sigma_s) * down / (1.0 - down)
        std_rf = math.sqrt(sigma_s**2 - c**2)
        eta = std_rf / make_step("flow", sigma_t, sigma_s, 1.0).std
        if eta > 1.0:
            pytest.fail(f"step {i}: the host's noise is more than the posterior's: {eta}")
        step = make_step("flow", sigma_t, sigma_s, eta)
        ours = step.mean(x, denoised) + step.std * noise[1 + i]
        assert difference(ours, states[i + 1]) <= TOLERANCE


@pytest.mark.parametrize("family", VP + FLOW, indirect=True)
def test_a_seed_gives_the_same_picture_again(family: Any) -> None:
    assert torch.equal(family.ours(1.0), family.ours(1.0))
