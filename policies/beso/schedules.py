"""The noise levels a sampler goes through: from sigma_max down to sigma_min in `steps` evaluations, and then to 0.

A schedule maps ``(steps, sigma_min, sigma_max)`` to ``steps + 1`` strictly falling levels, the last of which is 0. With
one step there is only sigma_max before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Schedule = Callable[[int, float, float], tuple[float, ...]]

VP_BETA_D, VP_BETA_MIN = 19.9, 0.1  # of Song et al. 2021


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 5.0) -> tuple[float, ...]:
    """``sigma^(1/rho)`` falls linearly (Karras et al. 2022, eq. 5; BESO has rho = 5)."""
    return _falling(steps, sigma_min, sigma_max, lambda sigma: sigma ** (1 / rho), lambda value: value**rho)


def exponential(steps: int, sigma_min: float, sigma_max: float) -> tuple[float, ...]:
    """The logarithm of sigma falls linearly."""
    return _falling(steps, sigma_min, sigma_max, math.log, np.exp)


def linear(steps: int, sigma_min: float, sigma_max: float) -> tuple[float, ...]:
    """Sigma falls linearly."""
    return _falling(steps, sigma_min, sigma_max, float, lambda value: value)


def cosine(steps: int, sigma_min: float, sigma_max: float) -> tuple[float, ...]:
    """The angle of signal ``cos`` against noise ``sin`` falls linearly (Nichol and Dhariwal 2021), ``sigma = tan``."""
    return _falling(steps, sigma_min, sigma_max, math.atan, np.tan)


def vp(steps: int, sigma_min: float, sigma_max: float) -> tuple[float, ...]:
    """Time falls linearly in the variance-preserving process, ``ln(1 + sigma^2) = beta_d t^2 / 2 + beta_min t``."""

    def time(sigma: float) -> float:
        return (math.sqrt(VP_BETA_MIN**2 + 2 * VP_BETA_D * math.log1p(sigma**2)) - VP_BETA_MIN) / VP_BETA_D

    return _falling(steps, sigma_min, sigma_max, time, vp_sigma)


def vp_sigma(time: np.ndarray) -> np.ndarray:
    """The variance-preserving process's noise over signal at a time in [0, 1]."""
    return np.sqrt(np.expm1(VP_BETA_D * time**2 / 2 + VP_BETA_MIN * time))


SCHEDULES: dict[str, Schedule] = {
    "karras": karras,
    "exponential": exponential,
    "linear": linear,
    "cosine": cosine,
    "vp": vp,
    "ve": exponential,  # Karras et al. 2022, Table 1: sigma^2 falls geometrically, and so does sigma
}


def _falling(steps: int, sigma_min: float, sigma_max: float, forward: Callable[[float], float],
             inverse: Callable[[np.ndarray], np.ndarray]) -> tuple[float, ...]:  # fmt: skip
    """Levels evenly spaced in ``forward(sigma)``, with the ends exact."""
    levels = inverse(np.linspace(forward(sigma_max), forward(sigma_min), steps))
    levels[-1], levels[0] = sigma_min, sigma_max  # in this order: one step is sigma_max alone
    return (*map(float, levels), 0.0)
