"""Operational space control: the tool follows accelerations in space, what freedom is left holds a posture.

Khatib, "A unified approach for motion and force control of robot manipulators: the operational space formulation",
IEEE Journal of Robotics and Automation 3(1), 1987. Written as loops over one small arm and compiled by numba, so that
native code can call it between two physics steps; for an arm of seven joints it takes about a microsecond.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_TINY = 1e-14  # a pivot below this part of its diagonal is a direction in which the arm cannot move


@njit(error_model="numpy", cache=True)
def operational_space_torque(
    torque: np.ndarray, inertia: np.ndarray, jacobian: np.ndarray, task: np.ndarray, posture: np.ndarray
) -> None:
    r"""Write into `torque` ``(n,)`` [N m] what realises `task` in space and `posture` in the null space.

    .. math:: \tau = J^T \begin{bmatrix} \Lambda_v a_v \\ \Lambda_\omega a_\omega \end{bmatrix}
              + (1 - J^T \Lambda J M^{-1}) M \ddot q_0, \qquad \Lambda = (J M^{-1} J^T)^{-1}

    with one :math:`\Lambda` for the linear and one for the angular rows, so that neither disturbs the other's gains.
    Gravity and velocity forces are the caller's to add.

    Args:
        torque: Result, one value a joint ``(n,)``.
        inertia: Joint space inertia :math:`M` ``(n, n)`` [kg m^2], of which the lower triangle is read.
        jacobian: Of the tool, linear rows above angular rows ``(6, n)``.
        task: Desired acceleration of the tool ``(6,)`` [m/s^2, rad/s^2].
        posture: Desired joint acceleration :math:`\ddot q_0` ``(n,)`` [rad/s^2] where it does not move the tool.
    """
    joints = len(torque)
    factor = np.empty((joints, joints))
    _cholesky(factor, inertia)
    half = np.empty((6, joints))  # J L^-T, whose square is J M^-1 J^T
    for row in range(6):
        half[row] = jacobian[row]
        _substitute(factor, half[row])
    mobility = np.empty((6, 6))
    for row in range(6):
        for column in range(row + 1):
            mobility[row, column] = _dot(half[row], half[column])

    force = np.empty(6)
    full, linear, angular = np.empty((6, 6)), np.empty((3, 3)), np.empty((3, 3))
    for row in range(6):
        force[row] = -_dot(jacobian[row], posture)
    _cholesky(full, mobility)
    _solve(full, force)
    wrench = task.copy()
    _cholesky(linear, mobility[:3, :3])
    _solve(linear, wrench[:3])
    _cholesky(angular, mobility[3:, 3:])
    _solve(angular, wrench[3:])

    for joint in range(joints):
        total = 0.0
        for row in range(6):
            total += jacobian[row, joint] * (wrench[row] + force[row])
        for other in range(joints):
            total += inertia[max(joint, other), min(joint, other)] * posture[other]
        torque[joint] = total


@njit(error_model="numpy", cache=True)
def _dot(a: np.ndarray, b: np.ndarray) -> float:
    total = 0.0
    for index in range(len(a)):
        total += a[index] * b[index]
    return total


@njit(error_model="numpy", cache=True)
def _cholesky(factor: np.ndarray, matrix: np.ndarray) -> None:
    """Lower factor of a positive definite matrix; a direction without pivot gets an infinite one, and so no share."""
    for row in range(len(matrix)):
        for column in range(row + 1):
            rest = matrix[row, column]
            for k in range(column):
                rest -= factor[row, k] * factor[column, k]
            if column < row:
                factor[row, column] = rest / factor[column, column]
            else:
                factor[row, row] = np.sqrt(rest) if rest > _TINY * matrix[row, row] else np.inf


@njit(error_model="numpy", cache=True)
def _substitute(factor: np.ndarray, vector: np.ndarray) -> None:
    """``factor^-1 vector``, in place."""
    for row in range(len(vector)):
        rest = vector[row]
        for k in range(row):
            rest -= factor[row, k] * vector[k]
        vector[row] = rest / factor[row, row]


@njit(error_model="numpy", cache=True)
def _solve(factor: np.ndarray, vector: np.ndarray) -> None:
    """``(factor factor^T)^-1 vector``, in place."""
    _substitute(factor, vector)
    for row in range(len(vector) - 1, -1, -1):
        rest = vector[row]
        for k in range(row + 1, len(vector)):
            rest -= factor[k, row] * vector[k]
        vector[row] = rest / factor[row, row]
