"""Schedules and samplers against Gaussian data, for which the denoiser, the ODE and the SDE have closed forms."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fermo.policies.beso.samplers import SAMPLERS, generator_noise
from fermo.policies.beso.schedules import SCHEDULES, vp_sigma

MEAN, STD = 0.7, 0.6  # of the data
SIGMA_MIN, SIGMA_MAX = 0.02, 1.0

# Sampler -> order of its global error. LMS and DPM++2M begin with a first-order step, which leaves them second order.
ODE_ORDERS = {"euler": 1, "ddim": 1, "heun": 2, "dpm_2": 2, "dpmpp_2s": 2, "dpmpp_2m": 2, "lms": 2}
SDE_ORDERS = {"euler_ancestral": 1, "dpmpp_sde": 2}


def denoise(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """E[a | a + sigma e = x] for a ~ N(MEAN, STD^2)."""
    return MEAN + STD**2 / (STD**2 + sigma**2) * (x - MEAN)


def no_noise(like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like)


def levels(steps: int) -> list[float]:
    """From SIGMA_MAX to SIGMA_MIN without the last step to 0, so that a solver's order shows."""
    return np.geomspace(SIGMA_MAX, SIGMA_MIN, steps + 1).tolist()


def exact(x: torch.Tensor, start: float, end: float) -> torch.Tensor:
    """The ODE's solution: ``x - MEAN`` is proportional to ``sqrt(STD^2 + sigma^2)``."""
    return MEAN + (x - MEAN) * math.sqrt((STD**2 + end**2) / (STD**2 + start**2))


def distribution(name: str, sigmas: list[float]) -> tuple[float, float]:
    """Mean and standard deviation of what a sampler makes of the exact marginal at ``sigmas[0]``.

    The result is affine in the start and in each draw of noise, so its variance is the sum of squared slopes.
    """
    draws, steps = 2 * len(sigmas), iter(range(10**6))

    def one_at_a_time(like: torch.Tensor) -> torch.Tensor:
        noise = torch.zeros_like(like)
        noise[2 + next(steps)] = 1.0
        return noise

    start = torch.full((2 + draws,), MEAN, dtype=torch.float64)
    start[1] += math.sqrt(STD**2 + sigmas[0] ** 2)
    end = SAMPLERS[name].run(denoise, start, sigmas, one_at_a_time)
    return float(end[0]), float((end[1:] - end[0]).norm())


def measured_order(error: list[float]) -> float:
    """From the errors of two runs, the second with half the step."""
    return math.log2(error[0] / error[1])


def test_every_sampler_is_under_test():
    assert set(SAMPLERS) == set(ODE_ORDERS) | set(SDE_ORDERS)


@pytest.mark.parametrize("name", ODE_ORDERS)
def test_an_ode_sampler_converges_to_the_closed_form_at_its_order(name: str):
    start = torch.linspace(-2, 2, 5, dtype=torch.float64)
    errors = []
    for steps in (64, 128):
        end = SAMPLERS[name].run(denoise, start, levels(steps), no_noise)
        errors.append(float((end - exact(start, SIGMA_MAX, SIGMA_MIN)).abs().max()))
    assert errors[1] < (0.01 if ODE_ORDERS[name] == 1 else 2e-4)
    assert measured_order(errors) == pytest.approx(ODE_ORDERS[name], abs=0.25)


@pytest.mark.parametrize("name", SDE_ORDERS)
def test_an_sde_sampler_converges_to_the_marginal_at_its_order(name: str):
    errors = []
    for steps in (64, 128):
        mean, std = distribution(name, levels(steps))
        assert mean == pytest.approx(MEAN, abs=1e-9)
        errors.append(abs(std - math.sqrt(STD**2 + SIGMA_MIN**2)))
    assert errors[1] < (0.02 if SDE_ORDERS[name] == 1 else 1e-3)
    assert measured_order(errors) == pytest.approx(SDE_ORDERS[name], abs=0.25)


@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2"])
def test_churn_keeps_the_marginal(name: str):
    """The noise put in is what the step takes out again; the error stays first order in the step."""
    sigmas, steps = levels(256), iter(range(10**6))

    def one_at_a_time(like: torch.Tensor) -> torch.Tensor:
        noise = torch.zeros_like(like)
        noise[2 + next(steps)] = 1.0
        return noise

    start = torch.full((2 + 256,), MEAN, dtype=torch.float64)
    start[1] += math.sqrt(STD**2 + SIGMA_MAX**2)
    end = SAMPLERS[name].run(denoise, start, sigmas, one_at_a_time, churn=10.0)
    assert float(end[0]) == pytest.approx(MEAN, abs=1e-9)
    assert float((end[1:] - end[0]).norm()) == pytest.approx(STD, rel=0.03)
    assert float(end[2:].sub(MEAN).abs().max()) > 1e-3, "without churn no noise reaches the result"


def test_ddim_is_euler_to_the_rounding():
    x = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * SIGMA_MAX
    sigmas = SCHEDULES["karras"](7, SIGMA_MIN, SIGMA_MAX)
    by_euler = SAMPLERS["euler"].run(denoise, x, sigmas, no_noise)
    for sigma, following in pairwise(sigmas):
        denoised = denoise(x, sigma)
        x = denoised + following / sigma * (x - denoised)
    torch.testing.assert_close(by_euler, x, atol=1e-6, rtol=0)


def test_lms_is_scipys_integral_of_lagranges_polynomials():
    from scipy.integrate import quad
    from scipy.interpolate import lagrange

    from fermo.policies.beso.samplers import _adams_weights

    nodes = [1.0, 1.7, 2.9, 5.2]
    for k, weight in enumerate(_adams_weights(nodes, 1.0, 0.4)):
        values = [1.0 if j == k else 0.0 for j in range(4)]
        assert weight == pytest.approx(quad(lagrange(nodes, values), 1.0, 0.4)[0], rel=1e-9)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_network_evaluations_are_as_stated(name: str, steps: int):
    calls = []

    def counted(x: torch.Tensor, sigma: float) -> torch.Tensor:
        calls.append(sigma)
        return denoise(x, sigma)

    sigmas = SCHEDULES["linear"](steps, SIGMA_MIN, SIGMA_MAX)
    end = SAMPLERS[name].run(counted, torch.zeros(2), sigmas, torch.randn_like)
    assert len(calls) == SAMPLERS[name].evaluations(steps)
    assert end.shape == (2,) and end.isfinite().all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_sampling_follows_its_generator_and_leaves_the_global_one_alone(name: str):
    sigmas, before = SCHEDULES["exponential"](5, SIGMA_MIN, SIGMA_MAX), torch.get_rng_state()

    def run(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return SAMPLERS[name].run(denoise, torch.ones(4), sigmas, generator_noise(generator))

    assert torch.equal(run(1), run(1))
    assert torch.equal(run(1), run(2)) == (name in ODE_ORDERS)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("name", SCHEDULES)
@given(steps=st.integers(1, 60), sigma_min=st.floats(1e-3, 0.2), ratio=st.floats(1.5, 1e4))
def test_a_schedule_falls_strictly_from_sigma_max_over_sigma_min_to_zero(
    name: str, steps: int, sigma_min: float, ratio: float
):
    sigmas = SCHEDULES[name](steps, sigma_min, sigma_min * ratio)
    assert len(sigmas) == steps + 1 and sigmas[0] == sigma_min * ratio and sigmas[-1] == 0.0
    assert steps == 1 or sigmas[-2] == sigma_min
    assert all(after < before for before, after in pairwise(sigmas))


def test_schedules_are_their_closed_forms():
    first, middle, last, _ = SCHEDULES["karras"](3, 0.1, 2.0)
    assert middle == pytest.approx(((0.1**0.2 + 2.0**0.2) / 2) ** 5) and (first, last) == (2.0, 0.1)
    assert SCHEDULES["exponential"](3, 0.1, 2.0)[1] == pytest.approx(math.sqrt(0.2))
    assert SCHEDULES["ve"](3, 0.1, 2.0)[1] == pytest.approx(math.sqrt(0.2))
    assert SCHEDULES["linear"](3, 0.1, 2.0)[1] == pytest.approx(1.05)
    assert SCHEDULES["cosine"](3, 0.1, 2.0)[1] == pytest.approx(math.tan((math.atan(0.1) + math.atan(2.0)) / 2))
    times = np.linspace(0, 1, 5)
    sigmas = vp_sigma(times)
    assert SCHEDULES["vp"](4, sigmas[1], sigmas[4])[:4] == pytest.approx(sigmas[:0:-1])
