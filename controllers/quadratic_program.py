"""Small strictly convex quadratic programs: solved by DAQP, and every solution checked again in NumPy.

A solver's own word is not taken: active-set and interior-point codes alike have returned wrong points as solved. The
four conditions of Karush, Kuhn and Tucker are necessary and sufficient here, so that checking them proves the point.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import daqp
import numpy as np

UNBOUNDED = 1e30
"""A bound of this size or more is none; DAQP's own infinity."""

_OPTIMAL, _INFEASIBLE = 1, -1  # DAQP's exit flags
_ITERATIONS = 1000  # of the active set; a few more than there are rows is what these problems take
_PRIMAL_TOLERANCE = 1e-9  # on rows of unit length


@dataclass(frozen=True, kw_only=True)
class QuadraticProgram:
    """``min 1/2 sum_i w_i (x_i - t_i)^2  subject to  low <= (x, A x) <= high``.

    Attributes:
        weight: w, positive, shape ``(n,)``.
        target: t, shape ``(n,)``.
        rows: A, C-contiguous, shape ``(m, n)``.
        low: Bounds of x, then of A x, shape ``(n + m,)``; `UNBOUNDED` is none.
        high: The same from above.
    """

    weight: np.ndarray
    target: np.ndarray
    rows: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Solution:
    """What a solver says.

    Attributes:
        status: ``"optimal"``, ``"infeasible"``, or ``"failed"`` for anything else.
        x: The point, shape ``(n,)``.
        multipliers: One a bound, shape ``(n + m,)``: positive at an upper bound, negative at a lower one, else zero.
    """

    status: str
    x: np.ndarray
    multipliers: np.ndarray


Solver = Callable[[QuadraticProgram], Solution]


def solve(problem: QuadraticProgram) -> Solution:
    """By DAQP, a dual active-set method (Arnström, Bemporad & Axehill, IEEE TAC 67(8), 2022)."""
    x, _, flag, info = daqp.solve(
        np.diag(problem.weight), -problem.weight * problem.target, problem.rows, problem.high, problem.low,
        iter_limit=_ITERATIONS, primal_tol=_PRIMAL_TOLERANCE,
    )  # fmt: skip
    status = {_OPTIMAL: "optimal", _INFEASIBLE: "infeasible"}.get(flag, "failed")
    return Solution(status=status, x=x, multipliers=info["lam"])


def is_optimal(problem: QuadraticProgram, solution: Solution, tolerance: float = 1e-6) -> bool:
    r"""Whether `solution` meets the KKT conditions to `tolerance`, which is scaled with the problem's numbers.

    With :math:`g = (x, Ax)` and multipliers :math:`\lambda = \lambda^+ - \lambda^-`, :math:`\lambda^\pm \ge 0`:

    .. math:: low \le g \le high, \qquad w (x - t) + \lambda_{1..n} + A^T \lambda_{n+1..n+m} = 0, \qquad
              \lambda^+ (high - g) = 0, \qquad \lambda^- (g - low) = 0

    The last two say with the sign of a multiplier which bound it belongs to, and that the point lies on that bound.
    A NaN anywhere fails.
    """
    x, multipliers, n = solution.x, solution.multipliers, len(problem.target)
    value = np.concatenate([x, problem.rows @ x])
    pull = problem.weight * (x - problem.target)
    gradient = pull + multipliers[:n] + multipliers[n:] @ problem.rows
    near, small = tolerance * (1.0 + np.abs(value).max()), tolerance * (1.0 + np.abs(pull).max())
    above, below = value - problem.low, problem.high - value
    pressing = np.abs(multipliers) > small
    return bool(
        solution.status == "optimal"
        and np.minimum(above, below).min() >= -near
        and np.abs(gradient).max() <= small
        and np.where(multipliers > 0, below, above).max(where=pressing, initial=0.0) <= near
    )


def soften(problem: QuadraticProgram, weight: np.ndarray) -> QuadraticProgram:
    r"""The same with a slack a row: :math:`\min \dots + \tfrac12 \sum_k \rho_k s_k^2`, :math:`A x + s \ge low`, s >= 0.

    Args:
        problem: Its rows are bounded from below alone.
        weight: :math:`\rho`, shape ``(m,)``; a row whose weight is infinite gets no slack.

    Returns:
        A program in ``(x, s)``, with ``(n + m,)`` variables and the same m rows.
    """
    n, m = len(problem.target), len(weight)
    rigid = np.isinf(weight)
    rows = np.hstack([problem.rows, np.eye(m)])
    return QuadraticProgram(
        weight=np.concatenate([problem.weight, np.where(rigid, 1.0, weight)]),
        target=np.concatenate([problem.target, np.zeros(m)]),
        rows=rows,
        low=np.concatenate([problem.low[:n], np.zeros(m), problem.low[n:]]),
        high=np.concatenate([problem.high[:n], np.where(rigid, 0.0, UNBOUNDED), problem.high[n:]]),
    )

