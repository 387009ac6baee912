"""What follows for an imitator from the number of samples, its slope and its expert; each bound beside what happened.

Notation: the expert's loop forgets differences as ``||d_t|| <= C rho^t ||d_0||``, the plant moves by at most l_u for a
unit of action, the policy's slope is at most L (certified), the expert's L* (measured), the stage cost changes by at
most c_x and c_u for a unit of state and action. All in the normalised units of the policy's certificate. The formulas
are derived; h, L*, l_u, C and rho rest on samples, so a bound is no better than they are. Bounds of this kind are
large; that is a finding, and they are printed as they come.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from fermo.errors import FermoError

Array = NDArray[np.float64]


def fill_radius(data: Array, probes: Array) -> float:
    """h_n: largest distance from a probe ``(k, p)`` to its nearest sample of the data ``(n, p)``, both normalised.

    An estimate from below of the radius over all states that the probes stand for. For n samples of a density bounded
    below in d dimensions it falls like ``(log n / n)^(1/d)``.
    """
    return float(cKDTree(data).query(probes)[0].max())


def policy_error_bound(train_error: float, lipschitz: float, expert_lipschitz: float, fill: float) -> float:
    """``sup ||pi - pi*|| <= e_train + (L + L*) h``: from a state to its nearest sample, across, and back.

    Args:
        train_error: Largest error at a sample.
        lipschitz: L.
        expert_lipschitz: L*.
        fill: h, of the states spoken of.
    """
    return train_error + (lipschitz + expert_lipschitz) * fill


@dataclass(frozen=True, kw_only=True)
class Forgetting:
    """How a loop forgets and what moves it, as far as that was looked at.

    Attributes:
        overshoot: C.
        rho: Factor a step.
        input_slope: l_u.
        region: Distance from rest up to which the three were established; a radius beyond it is void.
    """

    overshoot: float
    rho: float
    input_slope: float
    region: float

    def __post_init__(self) -> None:
        if not (self.overshoot >= 1 and 0 <= self.rho < 1 and self.input_slope >= 0):
            raise FermoError(f"a loop forgets with C >= 1, 0 <= rho < 1 and l_u >= 0, got {self}")

    def small_gain(self, error_slope: float) -> float:
        """``kappa = C l_u (L + L*)``: how much of a deviation comes back as error; below ``1 - rho`` it dies out."""
        return self.overshoot * self.input_slope * error_slope

    def radius(self, error: float, *, kappa: float = 0.0) -> float | None:
        """``R = C l_u e / (1 - rho - kappa)``, how far an error of size e in every action drives the state.

        With ``kappa = 0`` the error must be bounded wherever the state goes; with `small_gain` it may grow with the
        distance from the data. None when ``kappa >= 1 - rho``: then nothing follows.
        """
        room = 1.0 - self.rho - kappa
        return self.overshoot * self.input_slope * error / room if room > 0 else None


def regret_bound(radius: float, error: float, expert_lipschitz: float, cost_x: float, cost_u: float) -> float:
    """``(c_x + c_u L*) R + c_u e`` a step; over an infinite horizon discounted by g, divide by ``1 - g``."""
    return (cost_x + cost_u * expert_lipschitz) * radius + cost_u * error


def measurement_cost_bound(radius: float, zeta: float, lipschitz: float, cost_x: float, cost_u: float) -> float:
    """``(c_x + c_u L) R + c_u L zeta`` a step, what a measurement error of size zeta adds to the cost."""
    return (cost_x + cost_u * lipschitz) * radius + cost_u * lipschitz * zeta


@dataclass(frozen=True, kw_only=True)
class Premises:
    """What the bounds of one checkpoint rest on, in normalised units.

    Attributes:
        samples: n.
        train_error: Largest error at a sample.
        error_floor: What no policy of slope L can bring that error below, from pairs of a part of the samples.
        lipschitz: L.
        expert_lipschitz: L*.
        fill: h.
        expert: How the expert's loop forgets.
        policy: How the policy's loop forgets; None where it does not contract everywhere in its region.
        cost_x: c_x.
        cost_u: c_u.
        zeta: Size of the measurement error.
    """

    samples: int
    train_error: float
    error_floor: float
    lipschitz: float
    expert_lipschitz: float
    fill: float
    expert: Forgetting
    policy: Forgetting | None
    cost_x: float
    cost_u: float
    zeta: float


@dataclass(frozen=True, kw_only=True)
class Bound:
    """One bound: of an action, of a state, or of the mean cost a step.

    Attributes:
        value: The number; None where the condition for one fails.
        established: Whether its premises hold as far as it reaches: the state stays where they were looked at.
    """

    value: float | None
    established: bool


def bounds(p: Premises) -> dict[str, Bound]:
    """Every bound by name."""
    error = policy_error_bound(p.train_error, p.lipschitz, p.expert_lipschitz, p.fill)
    kappa = p.expert.small_gain(p.lipschitz + p.expert_lipschitz)
    radius, growing = _radius(p.expert, error), _radius(p.expert, error, kappa)
    shaken = Bound(value=None, established=False) if p.policy is None else _radius(p.policy, p.lipschitz * p.zeta)
    regret = _after(radius, lambda r: regret_bound(r, error, p.expert_lipschitz, p.cost_x, p.cost_u))
    cost = _after(shaken, lambda r: measurement_cost_bound(r, p.zeta, p.lipschitz, p.cost_x, p.cost_u))
    return {
        "policy error": Bound(value=error, established=True),
        "deviation from the expert": radius,
        "deviation, error growing off the data": growing,
        "regret": regret,
        "deviation under measurement error": shaken,
        "cost of measurement error": cost,
    }


def _radius(loop: Forgetting, error: float, kappa: float = 0.0) -> Bound:
    value = loop.radius(error, kappa=kappa)
    return Bound(value=value, established=value is not None and value <= loop.region)


def _after(radius: Bound, formula: Callable[[float], float]) -> Bound:
    """A bound that is computed from a radius, and established where the radius is."""
    return Bound(value=None if radius.value is None else formula(radius.value), established=radius.established)


def residual_floor(observations: Array, actions: Array, lipschitz: float) -> float:
    """``max (||u_i - u_j|| - L ||o_i - o_j||) / 2``: what the largest error at a sample cannot fall below.

    Two samples that are close with actions far apart cannot both be met by a slope of L. Every pair of the N rows is
    looked at, in N^2 time and memory.

    Args:
        observations: ``(N, p)``, normalised.
        actions: ``(N, m)``, normalised.
        lipschitz: L.
    """
    apart, near = (np.linalg.norm(rows[:, None] - rows[None], axis=2) for rows in (actions, observations))
    return float(max(0.0, (apart - lipschitz * near).max() / 2))
