"""Numerical integrators of the probability-flow ODE and the reverse SDE, from noise to data.

With D the denoiser, the ODE is ``dx / dsigma = (x - D(x, sigma)) / sigma`` (Karras et al. 2022, eq. 3, sigma(t) = t).
In ``lambda = -ln sigma`` it is linear but for D, which the DPM-Solver++ family (Lu et al. 2022) integrates exactly; the
reverse SDE there is ``dx = 2 (D - x) dlambda + sqrt(2) sigma dW``.

A sampler takes the denoiser ``(x, sigma) -> D``, the start x of standard deviation about ``sigmas[0]``, any shape, the
falling levels, the last of which may be 0, and a source of standard normal noise shaped like its argument. Samplers
that draw none ignore it. ``churn`` (Karras et al. 2022, algorithm 2) raises the noise before each step, by up to
``churn`` over the number of steps, relatively; 0 leaves the ODE.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from fermo.policies.windowed.world_noise import Noise

Denoise = Callable[[Tensor, float], Tensor]


def generator_noise(generator: torch.Generator) -> Noise:
    """Noise from a generator, which must live on the samples' device."""
    return lambda like: torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def euler(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, *, churn: float = 0.0) -> Tensor:
    """``x += (sigma' - sigma) (x - D) / sigma``; also DDIM (Song et al. 2021): ``x = D + sigma'/sigma (x - D)``."""
    for sigma, following in pairwise(sigmas):
        x, sigma = _churned(x, sigma, churn, len(sigmas) - 1, noise)
        x = _step(x, _slope(x, denoise(x, sigma), sigma), sigma, following)
    return x


def heun(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, *, churn: float = 0.0) -> Tensor:
    """Karras et al. 2022, algorithms 1 and 2: the mean of the slopes at both ends; Euler's step to sigma = 0."""
    for sigma, following in pairwise(sigmas):
        x, sigma = _churned(x, sigma, churn, len(sigmas) - 1, noise)
        slope = _slope(x, denoise(x, sigma), sigma)
        if following > 0:
            ahead = _step(x, slope, sigma, following)
            slope = (slope + _slope(ahead, denoise(ahead, following), following)) / 2
        x = _step(x, slope, sigma, following)
    return x


def dpm_2(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, *, churn: float = 0.0) -> Tensor:
    """DPM-Solver-2 (Lu et al. 2022): the slope at the geometric middle; Euler's step to sigma = 0."""
    for sigma, following in pairwise(sigmas):
        x, sigma = _churned(x, sigma, churn, len(sigmas) - 1, noise)
        slope = _slope(x, denoise(x, sigma), sigma)
        if following > 0:
            middle = math.sqrt(sigma * following)
            halfway = _step(x, slope, sigma, middle)
            slope = _slope(halfway, denoise(halfway, middle), middle)
        x = _step(x, slope, sigma, following)
    return x


def euler_ancestral(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Tensor:
    """An Euler step to ``sigma_down = sigma'^2 / sigma``, then fresh noise up to sigma' (Song et al. 2021)."""
    for sigma, following in pairwise(sigmas):
        down, up = _ancestral(sigma, following)
        x = _step(x, _slope(x, denoise(x, sigma), sigma), sigma, down)
        if up > 0:
            x = x + up * noise(x)
    return x


def dpmpp_2s(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Tensor:
    """DPM-Solver++(2S): D at the middle in lambda carries the whole step; Euler's step to sigma = 0."""
    for sigma, following in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if following > 0:
            middle = math.sqrt(sigma * following)
            denoised = denoise(_exponential(x, denoised, middle / sigma), middle)
        x = _exponential(x, denoised, following / sigma)
    return x


def dpmpp_2m(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Tensor:
    """DPM-Solver++(2M): D extrapolated to the middle of the step from its last value; first-order to sigma = 0."""
    last: tuple[Tensor, float] | None = None
    for sigma, following in pairwise(sigmas):
        denoised = denoise(x, sigma)
        ahead = denoised
        if last is not None and following > 0:
            before, larger = last
            share = math.log(sigma / following) / math.log(larger / sigma) / 2  # half this step over the last one
            ahead = denoised + share * (denoised - before)
        x = _exponential(x, ahead, following / sigma)
        last = denoised, sigma
    return x


def dpmpp_sde(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise) -> Tensor:
    """DPM-Solver++(SDE): D at the middle of the reverse SDE's step, on one path of the noise; D itself at sigma = 0.

    The noise of the whole step is that of its first half, damped over the second, plus that of the second half.
    """
    for sigma, following in pairwise(sigmas):
        denoised = denoise(x, sigma)
        if following == 0:
            x = denoised
            continue
        middle = math.sqrt(sigma * following)
        first = _ancestral(sigma, middle)[1] * noise(x)
        halfway = _exponential(x, denoised, (middle / sigma) ** 2) + first
        denoised = denoise(halfway, middle)
        second = _ancestral(middle, following)[1] * noise(x)
        x = _exponential(x, denoised, (following / sigma) ** 2) + (following / middle) ** 2 * first + second
    return x


def lms(denoise: Denoise, x: Tensor, sigmas: Sequence[float], noise: Noise, *, order: int = 4) -> Tensor:
    """Adams-Bashforth in sigma: the polynomial through the last `order` slopes, integrated exactly over the step."""
    slopes: list[Tensor] = []
    for index, sigma in enumerate(sigmas[:-1]):
        slopes = [_slope(x, denoise(x, sigma), sigma), *slopes[: order - 1]]
        nodes = [sigmas[index - k] for k in range(len(slopes))]
        weights = _adams_weights(nodes, sigma, sigmas[index + 1])
        x = x + sum(weight * slope for weight, slope in zip(weights, slopes, strict=True))
    return x


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """A sampler and what it costs.

    Attributes:
        run: The integrator.
        evaluations: Network evaluations in n steps, the last of which goes to 0.
        churns: Whether `run` takes ``churn``.
    """

    run: Callable[..., Tensor]
    evaluations: Callable[[int], int]
    churns: bool = False


def _once(steps: int) -> int:
    return steps


def _twice(steps: int) -> int:
    return 2 * steps - 1


SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler(run=euler, evaluations=_once, churns=True),
    "ddim": Sampler(run=euler, evaluations=_once, churns=True),
    "heun": Sampler(run=heun, evaluations=_twice, churns=True),
    "dpm_2": Sampler(run=dpm_2, evaluations=_twice, churns=True),
    "euler_ancestral": Sampler(run=euler_ancestral, evaluations=_once),
    "dpmpp_2s": Sampler(run=dpmpp_2s, evaluations=_twice),
    "dpmpp_2m": Sampler(run=dpmpp_2m, evaluations=_once),
    "dpmpp_sde": Sampler(run=dpmpp_sde, evaluations=_twice),
    "lms": Sampler(run=lms, evaluations=_once),
}


def _slope(x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    return (x - denoised) / sigma


def _step(x: Tensor, slope: Tensor, sigma: float, following: float) -> Tensor:
    return x + (following - sigma) * slope


def _exponential(x: Tensor, denoised: Tensor, ratio: float) -> Tensor:
    """The linear part of the equation solved exactly while D stands still: ``ratio x + (1 - ratio) D``."""
    return ratio * x + (1 - ratio) * denoised


def _ancestral(sigma: float, following: float) -> tuple[float, float]:
    """``(sigma_down, sigma_up)`` with ``sigma_down^2 + sigma_up^2 = sigma'^2``, as the reverse SDE has them."""
    return following**2 / sigma, following * math.sqrt(1 - (following / sigma) ** 2)


def _churned(x: Tensor, sigma: float, churn: float, steps: int, noise: Noise) -> tuple[Tensor, float]:
    growth = min(churn / steps, math.sqrt(2) - 1)
    if growth == 0:
        return x, sigma
    raised = sigma * (1 + growth)
    return x + math.sqrt(raised**2 - sigma**2) * noise(x), raised


def _adams_weights(nodes: Sequence[float], start: float, end: float) -> list[float]:
    """The integrals from `start` to `end` of Lagrange's polynomials on `nodes`."""
    weights = []
    for k, node in enumerate(nodes):
        others = [other for j, other in enumerate(nodes) if j != k]
        scale = math.prod(node - other for other in others)
        integral = np.polynomial.Polynomial.fromroots(others).integ() if others else np.polynomial.Polynomial([0, 1])
        weights.append(float(integral(end) - integral(start)) / scale)
    return weights
