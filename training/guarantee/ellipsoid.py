"""An ellipsoid that a loop never leaves under bounded inputs, common to all of its linearisations in a region."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov
from scipy.optimize import minimize_scalar

from fermo.errors import FermoError
from fermo.training.guarantee.contraction import Vertex
from fermo.training.guarantee.sdp import is_positive_definite, solve
from fermo.training.guarantee.spectrum import spectral_radius

Array = NDArray[np.float64]

STRICTNESS = 1e-6
"""Identity matrix added to each inequality, relative to Q: room for the solver's rounding."""


@dataclass(frozen=True, kw_only=True)
class Ellipsoid:
    """``{x : x' Q^-1 x <= 1}``, which ``x+ = A_j x + B_j w`` with ``||w|| <= 1`` maps into itself.

    Without input every A_j contracts in the same norm by ``sqrt(1 - tau)`` a step: the inequality of
    `invariant_ellipsoid` holds without its last term too.

    Attributes:
        Q: ``(n, n)``, positive definite.
        tau: Weight of the input in the S-procedure, in (0, 1).
    """

    Q: Array
    tau: float

    @property
    def half_widths(self) -> Array:
        """Largest |x_i| in it, ``sqrt(Q_ii)``, ``(n,)``."""
        return np.sqrt(np.diag(self.Q))

    def scaled(self, factor: float) -> Ellipsoid:
        """That for inputs `factor` times as large; for factors above 1 invariant under the old inputs too."""
        return Ellipsoid(Q=factor**2 * self.Q, tau=self.tau)

    def reach(self, x: Array) -> float:
        """Factor by which it must be scaled to hold the states ``(N, n)``."""
        return float(np.sqrt(np.einsum("ni,ni->n", x, np.linalg.solve(self.Q, x.T).T).max()))


def invariant_ellipsoid(vertices: Sequence[Vertex]) -> Ellipsoid:
    r"""The invariant ellipsoid of least trace.

    By the S-procedure and Schur complements the ellipsoid is invariant if, for every vertex,

    .. math:: Q \succeq \frac{A_j Q A_j^T}{1 - \tau} + \frac{B_j B_j^T}{\tau}, \qquad 0 < \tau < 1

    (Boyd et al., 1994, section 6.1.3; Abedor, Nagpal and Poolla, 1996). It is equivalent to a block matrix that is
    affine in (A_j, B_j), so it holds in the hull of the vertices. For a single vertex the least Q solves the Lyapunov
    equation with equality; for several a semidefinite program in Q, for fixed tau, finds it.

    tau is the one that is best for the vertex of largest spectral radius alone.

    Raises:
        FermoError: A vertex is unstable, no ellipsoid is common to all, or the solver's answer fails the check.
    """
    radii = [spectral_radius(A) for A, _ in vertices]
    slowest = int(np.argmax(radii))
    if not radii[slowest] < 1.0:
        raise FermoError(f"no invariant ellipsoid: a vertex is unstable (spectral radius {radii[slowest]:.6g})")
    tau = _best_tau(*vertices[slowest], limit=1.0 - radii[slowest] ** 2)
    made = Ellipsoid(Q=_lyapunov(*vertices[0], tau) if len(vertices) == 1 else _program(vertices, tau), tau=tau)
    if not is_invariant(made, vertices):
        raise FermoError("the ellipsoid fails its check in NumPy; nothing is certified")
    return made


def _best_tau(A: Array, B: Array, limit: float) -> float:
    found = minimize_scalar(
        lambda share: float(np.trace(_lyapunov(A, B, share * limit))), bounds=(1e-4, 1 - 1e-4), method="bounded"
    )
    return float(found.x) * limit  # type: ignore[attr-defined]


def _lyapunov(A: Array, B: Array, tau: float) -> Array:
    """Solution of ``Q = A Q A' / (1 - tau) + B B' / tau``, with a little more input for strictness."""
    source = B @ B.T / tau
    return solve_discrete_lyapunov(A / np.sqrt(1 - tau), source + STRICTNESS * np.trace(source) * np.eye(len(A)))


def _program(vertices: Sequence[Vertex], tau: float) -> Array:
    """Least common Q for several vertices, by a semidefinite program."""
    import cvxpy as cp

    # Q grows with the square of the input, which may be tiny: it is solved for in units of one vertex's own.
    unit = float(np.trace(_lyapunov(*vertices[0], tau)))
    eye = np.eye(len(vertices[0][0]))
    Q = cp.Variable(eye.shape, symmetric=True)
    slacks = [Q - A @ Q @ A.T / (1 - tau) - B @ B.T / (tau * unit) for A, B in vertices]
    held = [0.5 * (slack + slack.T) >> STRICTNESS * eye for slack in slacks]
    solve(cp.Problem(cp.Minimize(cp.trace(Q)), [*held]), "invariant ellipsoid")
    assert Q.value is not None
    return unit * (Q.value + Q.value.T) / 2


def is_invariant(made: Ellipsoid, vertices: Sequence[Vertex]) -> bool:
    """Whether the inequality holds at every vertex, by NumPy's eigenvalues alone."""
    A, B = (np.stack(parts) for parts in zip(*vertices, strict=True))
    return bool(is_positive_definite(made.Q) and invariance_margin(made, A, B).min() > 0)


def invariance_margin(made: Ellipsoid, A: Array, B: Array) -> Array:
    """Least eigenvalue of the inequality at each of N loops, over Q's largest, ``(N,)``; positive where it holds.

    Args:
        made: The ellipsoid.
        A: State matrices ``(N, n, n)``.
        B: Input matrices ``(N, n, m)``.
    """
    slack = made.Q - A @ made.Q @ A.transpose(0, 2, 1) / (1 - made.tau) - B @ B.transpose(0, 2, 1) / made.tau
    return np.linalg.eigvalsh(slack)[:, 0] / np.linalg.eigvalsh(made.Q)[-1]
