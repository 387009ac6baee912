"""Noise densities against closed forms, and the preconditioning against the loss it stands for."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from fermo.errors import FermoError
from fermo.policies.beso import noise_density as density
from fermo.policies.beso.preconditioning import coefficients, network_target

LOW, HIGH = 0.05, 3.0
P = np.array([0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99])


def truncated(law, low: float = LOW, high: float = HIGH) -> np.ndarray:
    """Quantiles of a scipy law cut off at the ends."""
    return law.ppf(law.cdf(low) + P * (law.cdf(high) - law.cdf(low)))


def split_log_normal(mode: float, below: float, above: float) -> np.ndarray:
    """Quantiles by numerical integration of the two-piece density."""
    x = np.linspace(mode - 9 * below, mode + 9 * above, 200_001)
    pdf = np.exp(-0.5 * ((x - mode) / np.where(x < mode, below, above)) ** 2)
    cdf = np.cumsum(pdf) / pdf.sum()
    return np.exp(np.interp(P, cdf, x))


CASES = {
    "log-normal": (density.LogNormal(mean=-0.6, std=1.6), np.exp(stats.norm(-0.6, 1.6).ppf(P))),
    "log-logistic": (
        density.TruncatedLogLogistic(sigma_min=LOW, sigma_max=HIGH, location=math.log(0.5), scale=0.5),
        truncated(stats.fisk(c=2.0, scale=0.5)),
    ),
    "log-uniform": (density.LogUniform(sigma_min=LOW, sigma_max=HIGH), stats.loguniform(LOW, HIGH).ppf(P)),
    "uniform": (density.Uniform(sigma_min=LOW, sigma_max=HIGH), stats.uniform(LOW, HIGH - LOW).ppf(P)),
    "v-diffusion": (
        density.VDiffusion(sigma_min=LOW, sigma_max=HIGH, sigma_data=0.5),
        truncated(stats.halfcauchy(scale=0.5)),
    ),
    "discrete": (density.Discrete(values=(1.0, 0.1, 0.3)), np.array([0.1, 0.1, 0.1, 0.3, 1.0, 1.0, 1.0])),
    "split log-normal": (
        density.SplitLogNormal(mode=-0.6, std_below=1.2, std_above=0.4), split_log_normal(-0.6, 1.2, 0.4),
    ),
}  # fmt: skip


def test_every_density_is_under_test():
    kinds = {kind for name, kind in vars(density).items() if isinstance(kind, type) and not name.startswith("_")}
    offered = {kind for kind in kinds if issubclass(kind, density.NoiseDensity)} - {density.NoiseDensity}
    assert offered == {type(made) for made, _ in CASES.values()}


@pytest.mark.parametrize("name", CASES)
def test_quantiles_are_the_closed_form(name: str):
    made, expected = CASES[name]
    np.testing.assert_allclose(made.quantile(torch.as_tensor(P)).numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_draws_have_the_density_and_follow_the_generator(name: str):
    made, expected = CASES[name]
    before = torch.get_rng_state()
    draws = [made.sample((200, 200), torch.Generator().manual_seed(1)) for _ in range(2)]
    assert torch.equal(draws[0], draws[1]) and draws[0].dtype == torch.float32 and draws[0].shape == (200, 200)
    assert torch.equal(torch.get_rng_state(), before)
    if name != "discrete":
        shares = [(draws[0] <= quantile).double().mean().item() for quantile in expected]
        np.testing.assert_allclose(shares, P, atol=4 * 0.5 / 200)  # four standard errors
    else:
        assert draws[0].unique().tolist() == pytest.approx([0.1, 0.3, 1.0])


def test_the_released_kitchen_density_has_the_quantiles_measured_of_it():
    made = density.TruncatedLogLogistic(sigma_min=0.005, sigma_max=1.0, location=math.log(0.5), scale=0.5)
    quantiles = made.quantile(torch.tensor([0.05, 0.25, 0.5, 0.75, 0.95], dtype=torch.float64))
    np.testing.assert_allclose(quantiles.numpy(), [0.10, 0.25, 0.41, 0.61, 0.89], atol=0.005)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0), (0.1, math.inf)])
def test_an_empty_range_of_levels_is_refused(low: float, high: float):
    with pytest.raises(FermoError, match="0 < sigma_min < sigma_max"):
        density.LogUniform(sigma_min=low, sigma_max=high)


def test_discrete_levels_must_be_positive():
    with pytest.raises(FermoError, match="positive levels"):
        density.Discrete(values=(0.0, 1.0))


SIGMA_DATA = torch.tensor(0.5, dtype=torch.float64)
SIGMA = torch.tensor([[0.01], [0.3], [0.5], [4.0]], dtype=torch.float64)


def test_inputs_and_targets_have_unit_variance_at_every_level():
    """Exactly, for data of variance sigma_data^2: Karras et al. 2022, appendix B.6."""
    c = coefficients(SIGMA, SIGMA_DATA)
    torch.testing.assert_close(c.scale**2 * (SIGMA_DATA**2 + SIGMA**2), torch.ones_like(SIGMA))
    target_variance = ((1 - c.skip) ** 2 * SIGMA_DATA**2 + c.skip**2 * SIGMA**2) / c.out**2
    torch.testing.assert_close(target_variance, torch.ones_like(SIGMA))
    torch.testing.assert_close(c.noise, SIGMA.log() / 4)


def test_the_networks_error_is_edms_weighted_denoising_error():
    generator = torch.Generator().manual_seed(0)
    clean, noise, output = (torch.randn(4, 3, dtype=torch.float64, generator=generator) for _ in range(3))
    noised, c = clean + SIGMA * noise, coefficients(SIGMA, SIGMA_DATA)
    weight = (SIGMA**2 + SIGMA_DATA**2) / (SIGMA * SIGMA_DATA) ** 2
    denoised = c.skip * noised + c.out * output
    target = network_target(clean, noised, SIGMA, SIGMA_DATA)
    torch.testing.assert_close((output - target) ** 2, weight * (denoised - clean) ** 2)


def test_without_noise_the_denoiser_is_the_identity_whatever_the_network_says():
    c = coefficients(torch.zeros(3), torch.tensor(0.5))
    assert torch.equal(c.skip, torch.ones(3)) and torch.equal(c.out, torch.zeros(3)) and c.noise.isfinite().all()
    clean = torch.ones(3)
    assert torch.equal(network_target(clean, clean, torch.zeros(3), torch.tensor(0.5)), torch.zeros(3))
