"""A common quadratic norm in which every linearisation of a loop contracts, proved by linear matrix inequalities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fermo.errors import FermoError
from fermo.training.guarantee.sdp import InaccurateError, is_positive_definite, solve
from fermo.training.guarantee.spectrum import spectral_radius

Array = NDArray[np.float64]
Vertex = tuple[Array, Array]
"""State matrix ``(n, n)`` and input matrix ``(n, m)`` of a loop at one state."""

BISECTIONS = 14

SLACK = 1e-6
"""By how much, for P at least the identity, the inequalities are asked to hold: room for the solver's rounding."""


@dataclass(frozen=True, kw_only=True)
class Contraction:
    """``||x+||_P <= rho ||x||_P`` for every loop in the hull of the vertices, with ``||x||_P^2 = x' P x``.

    Attributes:
        P: ``(n, n)``, positive definite.
        rho: Factor a control step.
        multiplier: t of the policy-error block; 0 without an error.
        error_slope: L_e, the error that was allowed for.
    """

    P: Array
    rho: float
    multiplier: float
    error_slope: float

    @property
    def overshoot(self) -> float:
        """C in ``||x_t|| <= C rho^t ||x_0||``, Euclidean: the root of P's condition number."""
        values = np.linalg.eigvalsh(self.P)
        return float(np.sqrt(values[-1] / values[0]))


def certify_contraction(vertices: Sequence[Vertex], *, error_slope: float = 0.0, output: Array | None = None,
                        bisections: int = BISECTIONS) -> Contraction:  # fmt: skip
    r"""The smallest rho for which one P serves all vertices, by bisection.

    For ``x+ = A_j x + B_j w`` with an error ``||w|| <= L_e ||C x||``, by the S-procedure, P and t >= 0 exist with

    .. math:: \begin{bmatrix} A_j^T P A_j - \rho^2 P + t L_e^2 C^T C & A_j^T P B_j \\
              B_j^T P A_j & B_j^T P B_j - t I \end{bmatrix} \preceq 0 \quad \text{for every } j

    (Boyd et al., "Linear Matrix Inequalities in System and Control Theory", 1994). For a fixed P the condition is
    convex in (A_j, B_j), so it holds in the vertices' whole hull, and along every sequence of its members. A map whose
    Jacobians lie in the hull contracts *differences* of trajectories alike (mean value theorem).

    Args:
        vertices: Of the loop; the error's slope comes on top of them.
        error_slope: L_e.
        output: C ``(p, n)``; the identity when None.
        bisections: How often the interval of rho is halved.

    Raises:
        FermoError: A vertex is unstable, no common P exists, or the solver's answer fails the check in NumPy.
    """
    largest = max(spectral_radius(A) for A, _ in vertices)
    if not largest < 1.0:
        raise FermoError(
            f"nothing to certify: the loop is unstable at a vertex (spectral radius {largest:.6g}). Is a matrix "
            "transposed, or the policy's slope below what stabilises the plant?"
        )
    search = _Search(vertices, output, with_error=error_slope > 0)
    found, low, high = search.attempt(1.0, error_slope), largest, 1.0
    if found is None:
        raise FermoError(
            f"no common quadratic norm contracts at all {len(vertices)} vertices with error slope {error_slope:g}: "
            "take a smaller region, or a policy that is closer to linear"
        )
    for _ in range(bisections):
        rho = (low + high) / 2
        better = search.attempt(rho, error_slope)
        found, low, high = (better, low, rho) if better is not None else (found, rho, high)
    return found


def certify_tracking(vertices: Sequence[Vertex], *, rates: int = 8) -> Contraction:
    """The contraction that makes ``C / (1 - rho)`` small: what a steady error is multiplied by at most.

    For each of several rho, the P of least condition number; a larger rho has a rounder P.

    Raises:
        FermoError: As `certify_contraction`.
    """
    fastest = certify_contraction(vertices, bisections=rates)
    tried = [fastest]
    for share in np.linspace(0.1, 0.9, rates):
        made = _roundest(vertices, fastest.rho + share * (1.0 - fastest.rho))
        if is_contraction(made, vertices):
            tried.append(made)
    return min(tried, key=lambda made: made.overshoot / (1.0 - made.rho))


def largest_error_slope(vertices: Sequence[Vertex], *, output: Array | None = None,
                        bisections: int = BISECTIONS) -> float:  # fmt: skip
    """The largest L_e with which every trajectory still decays, by bisection between factors of two.

    Raises:
        FermoError: The vertices have no common P even without an error.
    """
    certify_contraction(vertices, bisections=0)
    search = _Search(vertices, output, with_error=True)
    low, high = 0.0, 1.0
    while high < 1e6 and search.attempt(1.0, high) is not None:
        low, high = high, 2 * high
    for _ in range(bisections):
        middle = (low + high) / 2
        low, high = (middle, high) if search.attempt(1.0, middle) is not None else (low, middle)
    return low


class _Search:
    """The program that is solved again and again, for other rho and error slopes; compiled once.

    With the trace of P fixed, the largest margin by which all inequalities hold exists whatever its sign, so that the
    solver never meets an infeasible problem, whose answers near the border are inaccurate.
    """

    def __init__(self, vertices: Sequence[Vertex], output: Array | None, *, with_error: bool) -> None:
        import cvxpy as cp

        self.vertices, self.with_error = vertices, with_error
        n = len(vertices[0][0])
        self.C = np.eye(n) if output is None else output
        self.P, self.t, margin = cp.Variable((n, n), symmetric=True), cp.Variable(nonneg=True), cp.Variable()
        self.rho_squared, self.slope_squared = cp.Parameter(nonneg=True), cp.Parameter(nonneg=True)
        error = self.t * self.slope_squared if with_error else None
        held = [self.P >> margin * np.eye(n), cp.trace(self.P) == n]
        for vertex in vertices:
            excess = _excess(self.P, self.t, self.rho_squared, error, self.C, vertex, cp.bmat)
            held.append(0.5 * (excess + excess.T) << -margin * np.eye(excess.shape[0]))
        self.problem = cp.Problem(cp.Maximize(margin), held)

    def attempt(self, rho: float, error_slope: float) -> Contraction | None:
        """A checked P for this rho, or None when the best there is does not pass."""
        self.rho_squared.value, self.slope_squared.value = rho**2, error_slope**2
        try:
            solve(self.problem, "contraction")
        except InaccurateError:  # near the smallest rho there is: counts as not found, and is not used
            return None
        assert self.P.value is not None
        multiplier = float(self.t.value) if self.with_error else 0.0  # type: ignore[arg-type]
        made = Contraction(P=(self.P.value + self.P.value.T) / 2, rho=rho, multiplier=multiplier,
                           error_slope=error_slope)  # fmt: skip
        return made if is_contraction(made, self.vertices, self.C) else None


def _roundest(vertices: Sequence[Vertex], rho: float) -> Contraction:
    """The P of least condition number for a rho that is known to be feasible; to be checked by the caller."""
    import cvxpy as cp

    eye = np.eye(len(vertices[0][0]))
    P, condition = cp.Variable(eye.shape, symmetric=True), cp.Variable()
    excesses = [A.T @ P @ A - rho**2 * P for A, _ in vertices]
    held = [0.5 * (excess + excess.T) << -SLACK * eye for excess in excesses]
    round_ = [P >> eye, P << condition * eye]
    solve(cp.Problem(cp.Minimize(condition), [*held, *round_]), "contraction of least overshoot")
    assert P.value is not None
    return Contraction(P=(P.value + P.value.T) / 2, rho=rho, multiplier=0.0, error_slope=0.0)


def is_contraction(made: Contraction, vertices: Sequence[Vertex], output: Array | None = None) -> bool:
    """Whether the inequalities hold at every vertex, by NumPy's eigenvalues alone."""
    C = np.eye(len(made.P)) if output is None else output
    error = made.multiplier * made.error_slope**2 if made.error_slope else None
    return bool(is_positive_definite(made.P)) and all(
        is_positive_definite(-_excess(made.P, made.multiplier, made.rho**2, error, C, vertex, np.block))
        for vertex in vertices
    )


def _excess(P: Any, t: Any, rho_squared: Any, error: Any, C: Array, vertex: Vertex, block: Callable) -> Any:
    """The matrix that must be negative semidefinite, of numbers or of cvxpy's expressions.

    `error` is ``t L_e^2``; without one the matrix is its upper left block.
    """
    A, B = vertex
    decay = A.T @ P @ A - rho_squared * P
    if error is None:
        return decay
    return block([[decay + error * (C.T @ C), A.T @ P @ B],
                  [B.T @ P @ A, B.T @ P @ B - t * np.eye(B.shape[1])]])  # fmt: skip
