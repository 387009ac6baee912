"""Small semidefinite programs: solved by Clarabel, believed only after NumPy has looked at the answer."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fermo.errors import FermoError

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

ROUNDING = 1e-9
"""Least eigenvalue that counts as positive, relative to the largest: what float64 leaves of an exact zero."""


class InaccurateError(FermoError):
    """The solver stopped short of an accurate optimum; what it left is not to be used."""


def solve(problem: cvxpy.Problem, what: str) -> None:
    """Solve a cvxpy problem in place.

    Args:
        problem: Its variables get their values.
        what: Names the problem in errors.

    Raises:
        InaccurateError: The solver does not report an accurate optimum.
    """
    import cvxpy

    try:
        with warnings.catch_warnings():  # cvxpy warns of what is an error here
            warnings.filterwarnings("ignore", message="Solution may be inaccurate")
            problem.solve(solver=cvxpy.CLARABEL)
    except cvxpy.SolverError as error:
        raise InaccurateError(f"{what}: the solver gave up ({error}); nothing is certified") from error
    if problem.status != cvxpy.OPTIMAL:
        raise InaccurateError(f"{what}: the solver reports {problem.status!r}, not an optimum; nothing is certified")


def is_positive_definite(matrices: Array) -> NDArray[np.bool_]:
    """Whether each symmetric matrix ``(..., n, n)`` is, with `ROUNDING` to spare; by eigenvalues, in float64."""
    values = np.linalg.eigvalsh(matrices)
    return values[..., 0] > ROUNDING * np.maximum(np.abs(values).max(axis=-1), np.finfo(np.float64).tiny)
