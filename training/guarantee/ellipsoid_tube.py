"""How far wrong measurements drive a closed loop, from one ellipsoid that is invariant for all of its slopes.

Derived on measured premises like the tube of l1 gains (`fermo.training.guarantee.tube`), which singles out one linear
loop and counts departures from it. Here none is singled out: what counts is how the slopes vary, on samples of a region
in which the ellipsoid has to lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fermo.errors import FermoError
from fermo.training.guarantee.closed_loop import ClosedLoop
from fermo.training.guarantee.contraction import Vertex
from fermo.training.guarantee.ellipsoid import Ellipsoid, invariance_margin, invariant_ellipsoid
from fermo.training.guarantee.samples import ROUNDS, Samples, corners

Array = NDArray[np.float64]

ADDED = 8
"""Slopes that are told to the solver in a round, the worst first."""


@dataclass(frozen=True, kw_only=True)
class EllipsoidTube:
    """An ellipsoid about the equilibrium that the state does not leave.

    Attributes:
        zeta: Largest measurement error ``||d / observation_std||`` it stands.
        half_widths: Largest distance of each state from the equilibrium, SI units ``(n,)``.
        ellipsoid: In normalised units.
        region: Half widths of the box in which slopes were sampled, normalised ``(n,)``.
        vertices: The slopes that had to be told to the solver, normalised.
    """

    zeta: float
    half_widths: Array
    ellipsoid: Ellipsoid
    region: Array
    vertices: tuple[Vertex, ...]


def ellipsoid_tube(loop: ClosedLoop, zeta: float, start: Array, *, samples: int = 512, seed: int = 0) -> EllipsoidTube:
    """The tube from one invariant ellipsoid common to all sampled slopes of the loop; no linear loop is singled out.

    Along the segment from the equilibrium to any x and w of the region, the mean of the slopes maps (x, w) to the state
    after the step exactly, so an ellipsoid that is invariant for their hull is invariant for the loop. Slopes that
    break the inequality are added as vertices until none of the samples does; new samples are then asked.

    Args:
        loop: Plant and policy.
        zeta: Size of the measurement error, in the certificate's norm.
        start: Largest distances of the starting state from the equilibrium, SI units ``(n,)``.
        samples: Slopes a round, besides those at the corners of the region.
        seed: Of the samples.

    Raises:
        FermoError: A slope in the region is unstable, or no ellipsoid lies within its region.
    """
    n, m = loop.B.shape
    w_max = loop.bound.lipschitz * zeta
    starts = corners(n) * start / loop.state_unit
    vertices = [(loop.A, loop.B * w_max)]
    region = np.zeros(n)
    for round_ in range(ROUNDS):
        made = invariant_ellipsoid(vertices)
        made = made.scaled(max(1.0, made.reach(starts)))
        if (made.half_widths > region).any():
            region = np.maximum(region, 1.1 * made.half_widths)
        drawn = Samples.draw(n, m, samples, seed + round_)  # others each round: the last, all kept, were never used
        A, B = loop.jacobians(region * drawn.x, w_max * drawn.w)
        margin = invariance_margin(made, A, B * w_max)
        worst = [i for i in np.argsort(margin)[:ADDED] if margin[i] <= 0]
        if not worst:
            return EllipsoidTube(zeta=zeta, half_widths=made.half_widths * loop.state_unit, ellipsoid=made,
                                 region=region, vertices=tuple(vertices))  # fmt: skip
        vertices += [(A[i], B[i] * w_max) for i in worst]
    raise FermoError(f"no ellipsoid closes for a measurement error of {zeta:g} within {ROUNDS} rounds")
