"""The linear-quadratic regulator of a sampled plant: the optimal linear feedback, and the cost it leaves."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, solve_discrete_are
from torch import Tensor

from fermo.errors import FermoError

Matrix = NDArray[np.float64]


class LqrSolution(NamedTuple):
    """Feedback and cost of `solve_lqr`.

    Attributes:
        K: Gain ``(m, n)``; the control is ``u = -K x``.
        P: Cost matrix ``(n, n)``: what is still to be paid from x is ``x' P x``.
    """

    K: Matrix
    P: Matrix


def solve_lqr(A: Matrix, B: Matrix, Q: Matrix, R: Matrix) -> LqrSolution:
    """Minimise ``sum_t x_t' Q x_t + u_t' R u_t`` subject to ``x+ = A x + B u``.

    With P the stabilising solution of the discrete algebraic Riccati equation::

        P = Q + A' P A - A' P B K,    K = (R + B' P B)^-1 B' P A

    (Kalman, "Contributions to the theory of optimal control", 1960; discrete form in Anderson and Moore, "Optimal
    Control: Linear Quadratic Methods", 1990).

    Args:
        A: State matrix of one control step ``(n, n)``.
        B: Input matrix ``(n, m)``.
        Q: Cost of the state ``(n, n)``, positive semidefinite.
        R: Cost of the control ``(m, m)``, positive definite.

    Raises:
        FermoError: The shapes do not fit, or no gain stabilises the plant at finite cost.
    """
    n, m = B.shape if B.ndim == 2 else (len(A), 0)
    if A.shape != (n, n) or m < 1 or Q.shape != (n, n) or R.shape != (m, m):
        shapes = ", ".join(f"{name} {value.shape}" for name, value in (("A", A), ("B", B), ("Q", Q), ("R", R)))
        raise FermoError(f"the regulator needs A (n, n), B (n, m), Q (n, n) and R (m, m), got {shapes}")
    try:
        P = solve_discrete_are(A, B, Q, R)
    except (LinAlgError, ValueError) as error:
        raise FermoError(f"no regulator: (A, B) is not stabilisable, or Q and R leave a mode free ({error})") from error
    K = np.linalg.solve(R + B.T @ P @ B, B.T @ P @ A)
    radius = float(np.abs(np.linalg.eigvals(A - B @ K)).max())
    if not radius < 1.0:
        raise FermoError(f"no regulator: the gain found leaves a spectral radius of {radius:.6g}; is A transposed?")
    return LqrSolution(K, P)


class Lqr:
    """``u = K (x_d - x)``, batched; no memory.

    Args:
        K: Gain ``(m, n)``, for example of `solve_lqr`.
        signals: Measurements that make up x, in order; together of size n.
    """

    def __init__(self, K: Matrix, signals: tuple[str, ...]) -> None:
        self.K, self.signals = torch.as_tensor(K, dtype=torch.float64), signals

    def command(self, target: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Control ``(N, m)``, in the plant's unit.

        Args:
            target: Wanted state x_d, shape ``(N, n)``.
            state: The measurements named by `signals`, each ``(N, size)``, SI units.
        """
        x = torch.cat([state[name] for name in self.signals], dim=1)
        return (target - x) @ self.K.T.to(x)

    def reset(self, mask: Tensor | None = None) -> None:
        """There is nothing to forget."""
