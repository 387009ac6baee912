r"""How far the action can be off when sensors are off by no more than their data sheets say.

With sensor errors ``|d_i| <= w_i`` channel by channel, LipSDP with one multiplier r_i an input proves, for every pair
of observations, ``||dy||^2 <= sum_i r_i (d_i / w_i)^2``, hence ``||dy|| <= sqrt(sum_i r_i)`` over the whole box.
Minimising sum r is a convex problem and finds the best diagonal scaling of the inputs together with the neurons'
multipliers. One Lipschitz constant instead treats every channel alike and proves no more than ``L ||w||``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fermo.errors import FermoError, unknown_name
from fermo.policies.certificates.certificate import feasible_starts
from fermo.policies.certificates.check_certificate import (
    Array,
    CertificateError,
    FeedforwardMap,
    linear_forms,
    proved_bound,
    proved_scale,
    slices,
)
from fermo.policies.certificates.lipsdp import SearchConfig, SearchFailed, search

TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """The most that sensor errors can move one command, a proved bound.

    Attributes:
        command: Its name.
        unit: SI unit of both bounds.
        bound: In l2 over the command's channels, by the best diagonal scaling.
        by_constant: What the certificate's one Lipschitz constant proves of the same errors.
    """

    command: str
    unit: str
    bound: float
    by_constant: float


def deviations(deployed: FeedforwardMap, sensor_error: Mapping[str, float], lipschitz: float) -> list[Deviation]:
    """One bound a command.

    Args:
        deployed: The policy's map.
        sensor_error: Half-width of the error of every channel of an observation signal, in its SI unit; signals that
            are not named are exact.
        lipschitz: The certificate's constant.

    Raises:
        FermoError: A signal does not exist, or a half-width is not positive and finite.
    """
    widths = _half_widths(deployed, sensor_error) / deployed.observation_std
    found = []
    for command in deployed.spec.commands:
        rows = slices(deployed.spec.commands)[command.name]
        scale = np.zeros_like(deployed.action_std)
        scale[rows] = deployed.action_std[rows]
        by_constant = lipschitz * float(np.linalg.norm(widths)) * float(scale.max())
        bound = min(by_constant, box_bound(*deployed.rescaled(scale, widths), deployed.activation))
        found.append(Deviation(command=command.name, unit=command.unit, bound=bound, by_constant=by_constant))
    return found


def box_bound(weights: list[Array], base: Array, activation: str) -> float:
    """Bound of ``||dy||`` over input differences in the box ``|dz_i| <= 1``."""
    starts, forms = feasible_starts(weights, base, activation), linear_forms(weights, base, activation)
    try:
        found = search(forms, [(bound, np.concatenate(layers)) for bound, layers in starts], shared=False,
                       config=SearchConfig(tolerance=TOLERANCE))  # fmt: skip
        r = found.input_multipliers
        return math.sqrt(proved_scale(weights, base, activation, found.multipliers, r) * r.sum())
    except (SearchFailed, CertificateError):
        return math.sqrt(forms.inputs) * proved_bound(weights, base, activation, None)


def _half_widths(deployed: FeedforwardMap, sensor_error: Mapping[str, float]) -> Array:
    """Half-width of every observation channel's error, in SI units, zero where it is exact."""
    where, widths = slices(deployed.spec.observations), np.zeros_like(deployed.observation_std)
    for name, width in sensor_error.items():
        if name not in where:
            raise unknown_name("observation signal", name, where)
        if not (math.isfinite(width) and width > 0):
            raise FermoError(f"the sensor error of {name} must be positive and finite, got {width}")
        widths[where[name]] = width
    return widths
