"""Solvers of the safety filter's programs, each as one would call it in a loop: set up once, updated, solved again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from fermo.controllers.quadratic_program import QuadraticProgram, solve

Call = Callable[[QuadraticProgram], np.ndarray]
"""A program of the first one's size to its point, ``(n,)``."""


@dataclass(frozen=True)
class Absent:
    """Why a solver takes no part."""

    why: str


def daqp(_: QuadraticProgram) -> Call:
    """The solver that the filter uses, unchecked."""
    return lambda program: solve(program).x


def piqp(first: QuadraticProgram) -> Call:
    """An interior-point method, updated."""
    n, solver = len(first.target), import_module("piqp").DenseSolver()
    nothing = {"A": None, "b": None}

    def data(program: QuadraticProgram) -> dict[str, Any]:
        low, high = program.low, program.high
        return {"c": -program.target, "G": np.asfortranarray(program.rows), "h_l": low[n:], "h_u": high[n:],
                "x_l": low[:n], "x_u": high[:n]}  # fmt: skip

    solver.setup(P=np.eye(n, order="F"), **nothing, **data(first))

    def call(program: QuadraticProgram) -> np.ndarray:
        solver.update(**data(program))
        solver.solve()
        return solver.result.x

    return call


def quadprog(first: QuadraticProgram) -> Call:
    """Goldfarb and Idnani's dual active-set method, from cold: it has no other way."""
    n, solve_qp, eye = len(first.target), import_module("quadprog").solve_qp, np.eye(len(first.target))

    def call(program: QuadraticProgram) -> np.ndarray:
        rows = np.vstack([eye, -eye, program.rows]).T
        bounds = np.concatenate([program.low[:n], -program.high[:n], program.low[n:]])
        return solve_qp(eye, program.target, rows, bounds)[0]

    return call


def osqp(first: QuadraticProgram) -> Call:
    """An operator-splitting method, updated and warm-started, to 1e-6."""
    from scipy import sparse

    n, m = first.rows.shape[::-1]
    solver = import_module("osqp").OSQP()
    whole = sparse.csc_matrix(np.vstack([np.eye(n), np.ones((m, n))]))  # every entry of A may change
    dense = np.array([whole.indices[k] >= n for k in range(whole.nnz)])
    solver.setup(sparse.eye(n, format="csc"), -first.target, whole, first.low, first.high, verbose=False,
                 eps_abs=1e-6, eps_rel=1e-6)  # fmt: skip

    def call(program: QuadraticProgram) -> np.ndarray:
        entries = np.ones(whole.nnz)
        entries[dense] = program.rows.T.ravel()  # column by column
        solver.update(q=-program.target, l=program.low, u=program.high, Ax=entries)
        return solver.solve().x

    return call


def clarabel(first: QuadraticProgram) -> Call:
    """An interior-point method, built anew."""
    from scipy import sparse

    package, n = import_module("clarabel"), len(first.target)
    settings, eye = package.DefaultSettings(), np.eye(n)
    settings.verbose = False
    cost, cones = sparse.eye(n, format="csc"), [package.NonnegativeConeT(2 * n + len(first.rows))]

    def call(program: QuadraticProgram) -> np.ndarray:
        rows = sparse.csc_matrix(np.vstack([eye, -eye, -program.rows]))
        bounds = np.concatenate([program.high[:n], -program.low[:n], -program.low[n:]])
        return np.array(package.DefaultSolver(cost, -program.target, rows, bounds, cones, settings).solve().x)

    return call


def cvxpy(first: QuadraticProgram) -> Call:
    """The program stated once with parameters and solved again, by OSQP to 1e-6."""
    package, n = import_module("cvxpy"), len(first.target)
    x, target, rows = package.Variable(n), package.Parameter(n), package.Parameter(first.rows.shape)
    low, high, bounds = package.Parameter(n), package.Parameter(n), package.Parameter(len(first.rows))
    stated = package.Problem(
        package.Minimize(0.5 * package.sum_squares(x - target)), [x >= low, x <= high, rows @ x >= bounds]
    )

    def call(program: QuadraticProgram) -> np.ndarray:
        target.value, rows.value = program.target, program.rows
        low.value, high.value, bounds.value = program.low[:n], program.high[:n], program.low[n:]
        stated.solve(solver="OSQP", eps_abs=1e-6, eps_rel=1e-6)
        return x.value

    return call


Maker = Callable[[QuadraticProgram], Call | Absent]


def _if_installed(package: str, make: Callable[[QuadraticProgram], Call]) -> Maker:
    def made(first: QuadraticProgram) -> Call | Absent:
        try:
            return make(first)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            return Absent(f"not installed: pip install {package}")

    return made


SOLVERS: dict[str, Maker] = {
    "DAQP, unchecked": daqp,
    "quadprog": _if_installed("quadprog", quadprog),
    "PIQP": _if_installed("piqp", piqp),
    "OSQP, updated": _if_installed("osqp", osqp),
    "Clarabel, rebuilt": _if_installed("clarabel", clarabel),
    "cvxpy, re-solved by OSQP": cvxpy,
}
"""Name to what makes its call, or says why it is absent."""

PACKAGES = ("daqp", "quadprog", "piqp", "osqp", "clarabel", "cvxpy")
"""Whose versions matter, where they are installed."""
