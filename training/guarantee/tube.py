"""How far wrong measurements drive a closed loop, from the l1 gains of the linear loop and what departs from it.

Derived: the tube follows, for a loop that starts in it, from the certificate of the policy and from its premises. The
premises are measured: how far plant and policy depart from linear, on samples of the tube's own box. A tube is given
only when it lies within the box that was sampled, so that the argument closes: as long as the state is in the tube the
premises hold, and as long as they hold it does not leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fermo.errors import FermoError
from fermo.training.guarantee.closed_loop import ClosedLoop
from fermo.training.guarantee.peak_gain import peak_gain
from fermo.training.guarantee.samples import INFLATION, ROUNDS, Samples, unseen_share
from fermo.training.guarantee.spectrum import spectral_radius

Array = NDArray[np.float64]

FAR = 1e4  # normalised units: no box of this size is near anything


@dataclass(frozen=True, kw_only=True)
class Tube:
    """Bounds of every state at every time, about the equilibrium, in SI units, ``(n,)`` each.

    Attributes:
        zeta: Largest measurement error ``||d / observation_std||`` it stands.
        half_widths: The bound: the sum of the next four.
        start: Part of the starting state's distance.
        measurement: Part of the measurement error, from the policy's certified slope.
        policy: Part of the policy's departure from linear.
        plant: Part of the plant's departure from linear.
        slope: The linear policy ``(m, p)``, normalised, from which departures are counted.
        unseen: Share of the tube's box, by volume, in which policy or plant may depart further than was counted, with
            99.9 % confidence (`unseen_share`).
    """

    zeta: float
    half_widths: Array
    start: Array
    measurement: Array
    policy: Array
    plant: Array
    slope: Array
    unseen: float


def peak_gain_tube(loop: ClosedLoop, zeta: float, start: Array, *, samples: int = 4096, seed: int = 0,
                   limit: Array | None = None) -> Tube:  # fmt: skip
    """The tube from the l1 gains of the linear loop, every departure from it counted as another input.

    With K the least-squares slope of the policy in the box b, e(b) how far it departs from K and r(b) how far the plant
    departs from its linearisation, both the largest of samples times `INFLATION`::

        b' = max |A^k| |x0| + sum ||A^k B|| (L zeta + e(b)) + sum |A^k| r(b),    A = A_plant + B K C

    and b grows until b' lies in b and new samples of b, never used before, keep to e(b) and r(b).

    Args:
        loop: Plant and policy.
        zeta: Size of the measurement error, in the certificate's norm.
        start: Largest distances of the starting state from the equilibrium, SI units ``(n,)``.
        samples: How many, besides the corners of the box.
        seed: Of the samples.
        limit: Half widths beyond which the search gives up, SI units ``(n,)``.

    Raises:
        FermoError: No box closes.
    """
    n, m = loop.B.shape
    drawn, w_max = Samples.draw(n, m, samples, seed), loop.bound.lipschitz * zeta
    x0, edge = start / loop.state_unit, np.full(n, FAR) if limit is None else limit / loop.state_unit
    gain, K = peak_gain(loop.A, loop.B), loop.K
    box = gain.start @ x0 + gain.input * w_max + 1e-9
    for round_ in range(1, ROUNDS):
        K = np.linalg.lstsq(box * drawn.x @ loop.C.T, loop.policy_deviation(box * drawn.x), rcond=None)[0].T
        A = loop.A_plant + loop.B @ K @ loop.C
        if spectral_radius(A) >= 1.0 or (box > edge).any():
            break
        gain = peak_gain(A, loop.B)
        departed, bent = _departures(loop, K, box, w_max, drawn)
        e, r = INFLATION * departed, INFLATION * bent
        parts = gain.start @ x0, gain.input * w_max, gain.input * e, gain.residual @ r
        reached = np.sum(parts, axis=0)
        if (reached <= box).all():
            fresh = Samples.draw(n, m, samples, seed + round_, with_corners=False)
            again = _departures(loop, K, box, w_max, fresh)
            if again[0] > e or (again[1] > r).any():  # the next round knows of them
                drawn = Samples(x=np.concatenate([drawn.x, fresh.x]), w=np.concatenate([drawn.w, fresh.w]))
                continue
            si = [part * loop.state_unit for part in parts]
            return Tube(zeta=zeta, half_widths=reached * loop.state_unit, start=si[0], measurement=si[1], policy=si[2],
                        plant=si[3], slope=K, unseen=unseen_share(samples))  # fmt: skip
        box = np.maximum(box, 1.02 * reached)
    raise FermoError(f"no tube closes for a measurement error of {zeta:g}: the loop departs too far from linear")


def _departures(loop: ClosedLoop, K: Array, box: Array, w_max: float, drawn: Samples) -> tuple[float, Array]:
    """Largest departure of the policy from K, a norm, and of the plant from its linearisation ``(n,)``."""
    x, w = box * drawn.x, w_max * drawn.w
    policy = loop.policy_deviation(x) - x @ loop.C.T @ K.T
    return float(np.linalg.norm(policy, axis=1).max()), np.abs(loop.plant_residual(x, w)).max(axis=0)
