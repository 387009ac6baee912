r"""What must stay true, as rows that a command has to meet: discrete-time control barrier functions.

A barrier :math:`h(x) \ge 0` is kept by every command u for which the next state satisfies

.. math:: h(x^+(x, u)) \ge (1 - \gamma) h(x), \qquad 0 < \gamma \le 1

(Agrawal & Sreenath, "Discrete control barrier functions for safety-critical control of discrete systems", RSS 2017):
then h falls by at most the share gamma a period and never below zero, and from outside it climbs back. With gamma = 1
only the boundary counts; a smaller one brakes on the way there.

**Measurement error.** The filter knows x only to within zeta, element by element. If that changes the row
:math:`\rho(x, u) = h(x^+) - (1 - \gamma) h(x)` by at most :math:`\mathrm{Lip}(\rho) \zeta`, then asking for

.. math:: \rho(\hat x, u) \ge \varepsilon_\zeta = \mathrm{Lip}(\rho) \zeta = (2 - \gamma) \mathrm{Lip}(h) \zeta

at the measured state makes the condition hold at the true one. The two parts of 2 - gamma are where the state is and
where it goes, so that the same margin covers a servo that stops up to zeta from its goal.

Barriers are batched NumPy: between one measurement and its command stand some dozen operations on a few numbers, and
torch would take longer to start them than they take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from fermo.controllers.kinematics import SerialChain

Array = np.ndarray

State = Mapping[str, Array]
"""Named measurements, float64, each ``(N, ...)``."""

Dynamics = Callable[[Array, Array], tuple[Array, Array]]
"""Position and velocity, each ``(N, n)``, to drift f ``(N, n)`` and gain g ``(N, n, m)``: acceleration = f + g u."""


class Barrier(Protocol):
    """Some barrier functions, one a row.

    Attributes:
        labels: What each of the R rows keeps, for reports.
        slack_weight: Cost of a unit of h squared, when no command meets all rows; infinite: never given up.
        lipschitz: How much each row changes at most with a unit of the command (l2), shape ``(R,)``.
        curved: Whether A and b depend on the command that they are linearised about.
    """

    labels: tuple[str, ...]
    slack_weight: float
    lipschitz: Array
    curved: bool

    def rows(self, state: State, command: Array) -> tuple[Array, Array]:
        """``A (N, R, m)`` and ``b (N, R)``: the condition is ``A u >= b``.

        A condition that is not affine in u is linearised about `command`, and exact there.

        Args:
            state: Named measurements.
            command: Shape ``(N, m)``.
        """
        ...


class JointHalfSpaces:
    r"""Half-spaces of joint positions, :math:`h = n^T q - c`, for commands that are joint velocities: q+ = q + dt u.

    The row is :math:`dt\, n^T u \ge -\gamma h + (2 - \gamma) |n|^T \zeta`, exact.

    Args:
        normals: n, one a row, shape ``(R, n)``.
        offsets: c, shape ``(R,)`` [rad].
        labels: One a row.
        period: dt [s].
        gamma: Largest share of h lost in a period.
        error: zeta, of each joint's position, shape ``(n,)`` or a number [rad].
        position: Name of the position in the state.
        slack_weight: See `Barrier`.
    """

    curved = False

    def __init__(
        self, normals: Array, offsets: Array, labels: Sequence[str], *, period: float, gamma: float = 0.5,
        error: Array | float = 0.0, position: str = "joint_position", slack_weight: float = 1e4,
    ) -> None:  # fmt: skip
        self.labels, self.slack_weight = tuple(labels), slack_weight
        self.lipschitz = period * np.linalg.norm(normals, axis=1)
        self._normals, self._offsets, self._rows = normals, offsets, period * normals
        self._gamma, self._position = gamma, position
        self._margin = (2 - gamma) * (np.abs(normals) * error).sum(axis=1)

    @classmethod
    def limits(cls, low: Array, high: Array, names: Sequence[str], **settings: Any) -> JointHalfSpaces:
        """Joint position limits, each ``(n,)`` [rad], infinite where there is none; `settings` as for the class."""
        eye, offsets = np.eye(len(low)), np.concatenate([low, -high])
        labels = [f"{name} {side}" for side in ("low", "high") for name in names]
        there = np.isfinite(offsets)
        labels = [label for label, is_there in zip(labels, there, strict=True) if is_there]
        return cls(np.vstack([eye, -eye])[there], offsets[there], labels, **settings)

    def rows(self, state: State, command: Array) -> tuple[Array, Array]:
        """See `Barrier`."""
        h = state[self._position] @ self._normals.T - self._offsets
        return self._rows[None].repeat(len(h), axis=0), self._margin - self._gamma * h


class PointHalfSpaces:
    r"""Half-spaces in space for one point of an arm, :math:`h = n^T p(q) - c`, for joint velocities: q+ = q + dt u.

    :math:`h(q^+)` is linearised about the command given, so that the rows are exact there:

    .. math:: dt\, n^T J(q^+_0) u \ge (1 - \gamma) h(q) - h(q^+_0) + dt\, n^T J(q^+_0) u_0 + \varepsilon_\zeta

    For the margin, h changes with an error :math:`|\delta_j| \le \zeta_j` by at most
    :math:`|n^T J|\,\zeta + \frac12 \zeta^T R\, \zeta`, R bounding the second derivatives:
    :math:`\partial^2 p / \partial q_i \partial q_j` is an axis times a column of J, so
    :math:`R_{ij} = \mathrm{reach}_{\max(i, j)}`.

    On the straight way in joint space to q+, h lies at most :math:`\frac18 d^T R\, d`, d = dt |u|, below the lower of
    its values at the ends.

    Args:
        chain: Leads to the point; its joints are those elements of position and command that `columns` names.
        normals: n, unit vectors in the world frame, shape ``(R, 3)``.
        offsets: c, shape ``(R,)`` [m].
        labels: One a row.
        period: dt [s].
        size: Elements of a command.
        columns: Where the chain's joints stand in it; the first ones when None.
        gamma: Largest share of h lost in a period.
        error: zeta, of each of the chain's joint positions, shape ``(n,)`` or a number [rad].
        position: Name of q in the state, of the command's size.
        climb: Whether to climb back from where h is negative or below its margin; otherwise rows ask there only that h
            does not fall.
        slack_weight: See `Barrier`.
    """

    curved = True

    def __init__(
        self, chain: SerialChain, normals: Array, offsets: Array, labels: Sequence[str], *, period: float, size: int,
        columns: Sequence[int] | None = None, gamma: float = 0.5, error: Array | float = 0.0,
        position: str = "joint_position", climb: bool = True, slack_weight: float = 1e4,
    ) -> None:  # fmt: skip
        reach = chain.reach().double().numpy()
        joints = np.arange(len(reach))
        self.labels, self.slack_weight = tuple(labels), slack_weight
        self.lipschitz = np.full(len(offsets), period * np.linalg.norm(reach))
        self._chain, self._normals, self._offsets = chain, normals, offsets
        self._columns = joints if columns is None else np.array(columns)
        self._period, self._size, self._gamma = period, size, gamma
        self._position, self._climb = position, climb
        self._error = np.broadcast_to(error, reach.shape)
        self.curvature = reach[np.maximum(joints[:, None], joints)]
        self._second_order = 0.5 * self._error @ self.curvature @ self._error

    def rows(self, state: State, command: Array) -> tuple[Array, Array]:
        """See `Barrier`."""
        q = state[self._position][:, self._columns]
        ahead = q + self._period * command[:, self._columns]
        point, _, jacobian = self._chain.forward(torch.from_numpy(np.concatenate([q, ahead])))
        h, next_h = np.split(point.numpy() @ self._normals.T - self._offsets, 2)
        slope = self._normals @ jacobian[:, :3].numpy()
        shake, next_shake = np.split(np.abs(slope) @ self._error + self._second_order, 2)
        rows = np.zeros((len(q), len(self._offsets), self._size))
        rows[:, :, self._columns] = self._period * slope[len(q) :]
        fall = self._gamma * h - (1 - self._gamma) * shake - next_shake
        least = h - (fall if self._climb else np.maximum(fall, 0.0))
        return rows, least - next_h + (rows @ command[:, :, None])[..., 0]


class AcceleratedHalfSpaces:
    r"""Half-spaces of positions, :math:`h = n^T q - c`, for commands that accelerate: relative degree 2.

    An exponential barrier (Nguyen & Sreenath, "Exponential control barrier functions for enforcing high relative-degree
    safety-critical constraints", ACC 2016): while :math:`\psi = \dot h + p h \ge 0`, h cannot fall faster than
    :math:`e^{-pt}`. psi has relative degree 1, and gets the discrete-time condition for a command that is held for a
    period, :math:`q^+ = q + dt\, v + \frac12 dt^2 a,\; v^+ = v + dt\, a,\; a = f(q, v) + g(q, v) u`:

    .. math:: (dt + \tfrac12 p\, dt^2)\, n^T g\, u \ge -\gamma (\psi - \delta) - p\, dt\, n^T v
              - (dt + \tfrac12 p\, dt^2)\, n^T f + \varepsilon

    Under constant acceleration psi dips between two samples by at most :math:`\delta = \frac18 p\, \bar a\, dt^2`; kept
    above delta at the samples it never is negative, and h with it, at any time. The margin holds the error of the
    acceleration alpha and that of the measurements:

    .. math:: \varepsilon = (dt + \tfrac12 p\, dt^2) \alpha
              + |n|^T ((2 - \gamma)(\zeta_v + p \zeta_q) + p\, dt\, \zeta_v)

    There is a command that meets the rows as long as the actuators can brake with :math:`p |\dot h|`: choose p no
    larger than the deceleration they have over the largest speed.

    Args:
        normals: n, one a row, shape ``(R, n)``.
        offsets: c, shape ``(R,)`` [rad] or [m].
        labels: One a row.
        dynamics: f and g.
        gain_bound: Of g in the l2 norm, for `lipschitz`.
        period: dt [s].
        decay: p [1/s].
        gamma: Largest share of psi - delta lost in a period.
        largest_acceleration: Of n^T q, a bar [rad/s^2].
        acceleration_error: alpha: by how much n^T (f + g u) may be wrong at any time of a period, what errors of q
            and v do to f and g included [rad/s^2].
        position_error: zeta_q of each joint [rad].
        velocity_error: zeta_v of each joint [rad/s].
        slack_weight: See `Barrier`.
    """

    curved = False

    def __init__(
        self, normals: Array, offsets: Array, labels: Sequence[str], dynamics: Dynamics, *, gain_bound: float,
        period: float, decay: float, gamma: float = 0.5, largest_acceleration: float, acceleration_error: float = 0.0,
        position_error: float = 0.0, velocity_error: float = 0.0, slack_weight: float = 1e4,
    ) -> None:  # fmt: skip
        dt, p = period, decay
        self.labels, self.slack_weight = tuple(labels), slack_weight
        self._share = dt + 0.5 * p * dt**2
        self.lipschitz = self._share * gain_bound * np.linalg.norm(normals, axis=1)
        self._normals, self._offsets, self._dynamics = normals, offsets, dynamics
        self._period, self._decay, self._gamma = dt, p, gamma
        self._dip = p * largest_acceleration * dt**2 / 8
        error = (2 - gamma) * (velocity_error + p * position_error) + p * dt * velocity_error
        self._margin = self._share * acceleration_error + np.abs(normals).sum(axis=1) * error

    def rows(self, state: State, command: Array) -> tuple[Array, Array]:
        """See `Barrier`; the state holds ``"joint_position"`` and ``"joint_velocity"``."""
        q, v = state["joint_position"], state["joint_velocity"]
        drift, gain = self._dynamics(q, v)
        speed = v @ self._normals.T
        psi = speed + self._decay * (q @ self._normals.T - self._offsets)
        still = -self._gamma * (psi - self._dip) - self._decay * self._period * speed
        return self._share * (self._normals @ gain), still - self._share * (drift @ self._normals.T) + self._margin


class JointVelocityLimits:
    r"""Speed limits, :math:`h = \bar v \mp v_j`, for commands that accelerate: v+ = v + dt (f + g u).

    The row is :math:`\mp dt\,(g u)_j \ge -\gamma h \pm dt f_j + (2 - \gamma) \zeta_v + dt\, \alpha`. For commands that
    are velocities themselves the limit is the filter's box.

    Args:
        largest: v bar of each joint, shape ``(n,)`` [rad/s]; infinite where there is none.
        names: Of the joints.
        dynamics: f and g.
        gain_bound: Of g in the l2 norm, for `lipschitz`.
        period: dt [s].
        gamma: Largest share of h lost in a period.
        velocity_error: zeta_v of each joint [rad/s].
        acceleration_error: alpha [rad/s^2].
        slack_weight: See `Barrier`.
    """

    curved = False

    def __init__(
        self, largest: Array, names: Sequence[str], dynamics: Dynamics, *, gain_bound: float, period: float,
        gamma: float = 0.5, velocity_error: float = 0.0, acceleration_error: float = 0.0, slack_weight: float = 1e4,
    ) -> None:  # fmt: skip
        there = np.flatnonzero(np.isfinite(largest))
        self.labels = tuple(f"{names[joint]} {side}" for side in ("slowest", "fastest") for joint in there)
        self.slack_weight = slack_weight
        self.lipschitz = np.full(2 * len(there), period * gain_bound)
        self._joints, self._largest, self._dynamics = there, largest[there], dynamics
        self._period, self._gamma = period, gamma
        self._margin = (2 - gamma) * velocity_error + period * acceleration_error

    def rows(self, state: State, command: Array) -> tuple[Array, Array]:
        """See `Barrier`; the state holds ``"joint_position"`` and ``"joint_velocity"``."""
        drift, gain = self._dynamics(state["joint_position"], state["joint_velocity"])
        v, drift, push = state["joint_velocity"][:, self._joints], drift[:, self._joints], gain[:, self._joints]
        h, push = np.hstack([self._largest + v, self._largest - v]), self._period * push
        fall = self._period * np.hstack([drift, -drift])
        return np.concatenate([push, -push], axis=1), self._margin - self._gamma * h - fall


def double_integrator(position: Array, velocity: Array) -> tuple[Array, Array]:
    """`Dynamics` of commands that are accelerations."""
    count, size = position.shape
    return np.zeros_like(position), np.broadcast_to(np.eye(size), (count, size, size))
