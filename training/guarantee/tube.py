"""How far the state of a closed loop can be driven by wrong measurements: two tubes, and the smaller for each state.

Derived: each tube follows, for a loop that starts in it, from the certificate of the policy and from its premises. The
premises are measured: how far plant and policy depart from linear, or how their slopes vary, on samples of the tube's
own box. A tube is given only when it lies within the box that was sampled, so that the argument closes: as long as the
state is in the tube the premises hold, and as long as they hold it does not leave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fermo.errors import FermoError
from fermo.training.guarantee.closed_loop import ClosedLoop, spectral_radius
from fermo.training.guarantee.ellipsoid import Ellipsoid, invariance_margin, invariant_ellipsoid
from fermo.training.guarantee.peak_gain import peak_gain

Array = NDArray[np.float64]

INFLATION = 1.1
"""Factor on what samples show, for what they miss."""

ROUNDS = 30
FAR = 1e4  # normalised units: no box of this size is near anything


def corners(n: int) -> Array:
    """Those of the box [-1, 1]^n, ``(2^n, n)``."""
    return np.stack(np.meshgrid(*[(-1.0, 1.0)] * n), axis=-1).reshape(-1, n)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Deviations and action changes in the unit box and ball: its corners, and draws from the inside.

    Attributes:
        x: ``(N, n)``, in [-1, 1].
        w: ``(N, m)``, of norm at most 1.
    """

    x: Array
    w: Array

    @classmethod
    def draw(cls, n: int, m: int, count: int, seed: int, *, with_corners: bool = True) -> Samples:
        """`count` uniform draws, after the 2^n corners if asked."""
        rng = np.random.default_rng(seed)
        inside, direction = rng.uniform(-1.0, 1.0, (count, n)), rng.normal(size=(count, m))
        radius = rng.uniform(size=(count, 1)) ** (1 / m)
        w = radius * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        if not with_corners:
            return cls(x=inside, w=w)
        edge = corners(n)
        push = np.repeat([1.0, -1.0], len(edge))[:, None] * np.ones(m) / np.sqrt(m)
        return cls(x=np.concatenate([edge, edge, inside]), w=np.concatenate([push, w]))


def unseen_share(samples: int, confidence: float = 0.999) -> float:
    """Largest share of a box, by volume, that may break a rule which all of `samples` new uniform draws kept.

    If the share were e, all would keep it with probability ``(1 - e)^samples``; each of the `ROUNDS` in which new draws
    may be asked has its part of the chance to err.
    """
    return 1.0 - ((1.0 - confidence) / ROUNDS) ** (1.0 / samples)


@dataclass(frozen=True, kw_only=True)
class Tube:
    """Bounds of every state at every time, about the equilibrium, in SI units, ``(n,)`` each.

    Attributes:
        zeta: Largest measurement error ``||d / observation_std||`` it stands.
        half_widths: The bound: the sum of the next four for the peak-gain tube.
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



@dataclass(frozen=True, kw_only=True)
class EllipsoidTube:
    """An ellipsoid about the equilibrium that the state does not leave.

    Attributes:
        zeta: Largest measurement error ``||d / observation_std||`` it stands.
        half_widths: Largest distance of each state from the equilibrium, SI units ``(n,)``.
        ellipsoid: In normalised units.
        region: Half widths of the box in which slopes were sampled, normalised ``(n,)``.
        vertices: How many linearisations had to be told to the solver.
    """

    zeta: float
    half_widths: Array
    ellipsoid: Ellipsoid
    region: Array
    vertices: tuple[tuple[Array, Array], ...]


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
        worst = [i for i in np.argsort(margin)[:8] if margin[i] <= 0]
        if not worst:
            return EllipsoidTube(zeta=zeta, half_widths=made.half_widths * loop.state_unit, ellipsoid=made,
                                 region=region, vertices=tuple(vertices))  # fmt: skip
        vertices += [(A[i], B[i] * w_max) for i in worst]
    raise FermoError(f"no ellipsoid closes for a measurement error of {zeta:g} within {ROUNDS} rounds")
