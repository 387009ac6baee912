"""From demonstrations to the data of an extension: merged where they coincide, then as Lipschitz as asked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fermo.errors import FermoError
from fermo.policies.lipschitz_extension.pairs import Array, Pairs
from fermo.policies.lipschitz_extension.regression import regress

MERGED = 1e-6  # standard deviations within which two observations are the same


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Data for an extension, and what was found about the demonstrations.

    Attributes:
        points: Distinct normalised observations, shape ``(n, d)``.
        values: Normalised actions there, shape ``(n, m)``.
        metrics: ``loss`` (mean squared error of a normalised action channel over the demonstrations), ``duality_gap``
            (at most this much of the loss could be saved), ``residual_floor`` (any alpha-Lipschitz map errs by at least
            this much, in l2, somewhere), ``steepest_demonstrations`` and ``steepest_values`` (largest slope between two
            distinct points, before and after), ``points`` and ``binding_pairs``.
    """

    points: Array
    values: Array
    metrics: dict[str, float]


def fit(points: Array, targets: Array, alpha: float, *, interpolate: bool, tolerance: float, max_steps: int) -> Fit:
    """The alpha-Lipschitz values that fit the demonstrations best.

    Args:
        points: Normalised observations, shape ``(M, d)``; equal ones are merged and aim at the mean of their actions.
        targets: Normalised actions, shape ``(M, m)``.
        alpha: The bound.
        interpolate: Demand every target itself.
        tolerance: Largest duality gap, as a share of the actions' variance.
        max_steps: Of the solver.

    Raises:
        FermoError: There are too few distinct points, alpha is too small to interpolate, or the solver gave up.
    """
    floor = Pairs(points).residual_floor(targets, alpha)
    first, index, count = np.unique(points.round(int(-np.log10(MERGED))), axis=0, return_index=True,
                                    return_inverse=True, return_counts=True)[1:]  # fmt: skip
    distinct, inverse, mass = points[first], index.reshape(-1), count / len(points)
    if len(distinct) < max(2, points.shape[1]):
        raise FermoError(f"{len(points)} demonstrations show {len(distinct)} distinct observations of "
                         f"{points.shape[1]} channels: record at least as many as there are channels")  # fmt: skip
    means = np.zeros((len(distinct), targets.shape[1]))
    np.add.at(means, inverse, targets / count[inverse, None])
    steepest = Pairs(distinct).steepest(means)
    spread = float(((targets - means[inverse]) ** 2).sum(axis=1).mean())  # no function of the observation has less
    if interpolate:
        _require_interpolable(targets, inverse, alpha, steepest)
        values, gap, binding = means, 0.0, 0
    else:
        found = regress(distinct, means, mass, alpha, tolerance=tolerance, max_steps=max_steps)
        values, gap, binding = found.values, found.gap, len(found.pairs)
    risk = spread + float(mass @ ((values - means) ** 2).sum(axis=1))
    channels = targets.shape[1]
    metrics = {
        "loss": risk / channels, "duality_gap": gap / channels, "residual_floor": floor,
        "steepest_demonstrations": steepest, "steepest_values": Pairs(distinct).steepest(values),
        "points": float(len(distinct)), "binding_pairs": float(binding),
    }  # fmt: skip
    return Fit(points=distinct, values=values, metrics=metrics)


def _require_interpolable(targets: Array, inverse: Array, alpha: float, steepest: float) -> None:
    firsts = np.unique(inverse, return_index=True)[1][inverse]  # of each sample, the first with its observation
    apart = np.abs(targets - targets[firsts]).max(axis=1)
    worst = int(apart.argmax())
    if apart[worst] > MERGED:
        raise FermoError(f"samples {firsts[worst]} and {worst} have one observation and different actions: no map "
                         "passes through both, set interpolate to False")  # fmt: skip
    if alpha < steepest:
        raise FermoError(f"alpha {alpha:g} cannot pass through these demonstrations: they force at least "
                         f"{steepest:.6g}; raise alpha or set interpolate to False")  # fmt: skip
