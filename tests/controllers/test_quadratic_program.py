"""Programs against cvxpy and closed forms, and the check against points that are wrong in every way there is."""

from __future__ import annotations

import dataclasses
import math

import cvxpy as cp
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from fermo.controllers.quadratic_program import UNBOUNDED, QuadraticProgram, Solution, is_optimal, soften, solve

SEEDS = st.integers(0, 2**32 - 1)


def problem(target, rows, bounds, box: float = 5.0, weight=None) -> QuadraticProgram:
    target, rows, bounds = (np.asarray(value, dtype=float) for value in (target, rows, bounds))
    return QuadraticProgram(
        weight=np.ones(len(target)) if weight is None else np.asarray(weight, dtype=float),
        target=target,
        rows=rows,
        low=np.concatenate([np.full(len(target), -box), bounds]),
        high=np.concatenate([np.full(len(target), box), np.full(len(bounds), UNBOUNDED)]),
    )


def drawn(seed: int, spread: float) -> QuadraticProgram:
    """A random program whose rows leave room around a point when `spread` is positive."""
    random = np.random.default_rng(seed)
    n, m = random.integers(1, 8), random.integers(1, 25)
    rows, inside = random.standard_normal((m, n)), random.uniform(-2, 2, n)
    return problem(
        4 * random.standard_normal(n), rows, rows @ inside - spread * random.random(m), weight=random.uniform(0.5, 2, n)
    )


def by_cvxpy(program: QuadraticProgram) -> np.ndarray:
    """By an interior-point method, whose points keep the square root of its gap from bounds that hardly press."""
    n = len(program.target)
    x = cp.Variable(n)
    cost = 0.5 * cp.sum(cp.multiply(program.weight, cp.square(x - program.target)))
    limits = [x >= program.low[:n], x <= program.high[:n], program.rows @ x >= program.low[n:]]
    stated = cp.Problem(cp.Minimize(cost), limits)
    stated.solve(solver=cp.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11)
    assert stated.status == "optimal" and x.value is not None
    return x.value


@given(normal=st.lists(st.floats(-3, 3), min_size=2, max_size=5), target=st.floats(-2, 2), bound=st.floats(-2, 2))
def test_one_half_space_is_a_projection(normal: list[float], target: float, bound: float) -> None:
    a, t = np.array(normal), np.full(len(normal), target)
    if np.linalg.norm(a) < 0.1:
        return
    program = problem(t, a[None], [bound], box=100.0)
    expected = t + max(0.0, bound - a @ t) / (a @ a) * a
    np.testing.assert_allclose(solve(program).x, expected, atol=1e-8)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_solutions_are_those_of_cvxpy_and_pass_the_check(seed: int) -> None:
    program = drawn(seed, spread=1.0)
    solution = solve(program)
    assert is_optimal(program, solution)
    np.testing.assert_allclose(solution.x, by_cvxpy(program), atol=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_a_softened_program_is_that_of_cvxpy(seed: int) -> None:
    random, program = np.random.default_rng(seed), drawn(seed, spread=-0.5)
    softened = soften(program, random.uniform(1.0, 100.0, len(program.rows)))
    solution = solve(softened)
    assert is_optimal(softened, solution)
    np.testing.assert_allclose(solution.x, by_cvxpy(softened), atol=1e-4)


def test_opposite_walls_are_infeasible_and_share_the_slack_by_weight() -> None:
    program = problem([0.0, 0.3], [[1.0, 0.0], [-1.0, 0.0]], [1.0, 1.0])
    assert solve(program).status == "infeasible"
    x = solve(soften(program, np.array([300.0, 100.0]))).x
    # min 1/2 x^2 + 150 (1 - x)^2 + 50 (1 + x)^2 over x has x = 200 / 401
    np.testing.assert_allclose(x, [200 / 401, 0.3, 1 - 200 / 401, 1 + 200 / 401], atol=1e-9)
    rigid = solve(soften(program, np.array([math.inf, 100.0])))
    np.testing.assert_allclose(rigid.x[[0, 2, 3]], [1.0, 0.0, 2.0], atol=1e-9)


WRONG = {
    "feasible but not the nearest": lambda x, m: (np.add(x, [1.0, 0.0]), m),
    "outside a row": lambda x, m: (np.add(x, [-0.1, 0.0]), m),
    "outside the box": lambda x, m: (np.add(x, [0.0, 90.0]), m),
    "stationary with a multiplier of the wrong sign": lambda x, m: (np.add(x, [-2.0, 0.0]), -m),
    "pushed by a row that it does not touch": lambda x, m: (np.add(x, [1.0, 0.0]), np.add(m, [0.0, 0.0, -1.0])),
    "not a number": lambda x, m: (x * math.nan, m),
    "without multipliers": lambda x, m: (x, m * 0.0),
}


@pytest.mark.parametrize("how", WRONG)
def test_the_check_refuses_a_point_that_is(how: str) -> None:
    program = problem([0.0, 0.0], [[1.0, 0.0]], [1.0])
    right = solve(program)
    assert is_optimal(program, right)
    x, multipliers = WRONG[how](right.x, right.multipliers)
    assert not is_optimal(program, Solution(status="optimal", x=x, multipliers=multipliers))
    assert not is_optimal(program, dataclasses.replace(right, status="failed"))


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, size=st.floats(1e-3, 10.0))
def test_the_check_refuses_every_other_point(seed: int, size: float) -> None:
    program = drawn(seed, spread=1.0)
    right = solve(program)
    shift = np.random.default_rng(seed).standard_normal(len(right.x))
    other = right.x + size * shift / np.linalg.norm(shift)
    assert not is_optimal(program, dataclasses.replace(right, x=other))
