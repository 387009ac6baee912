"""The regulator against hand-worked scalars, the cost it promises, and gains near its own."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.controllers.base import Controller
from fermo.controllers.lqr import Lqr, solve_lqr
from fermo.errors import FermoError


@given(a=st.floats(-3.0, 3.0), b=st.floats(0.1, 3.0), q=st.floats(0.01, 10.0), r=st.floats(0.01, 10.0))
@settings(max_examples=50, deadline=None)
def test_the_scalar_case_is_a_quadratic_equation(a: float, b: float, q: float, r: float) -> None:
    """P = q + a^2 P r / (r + b^2 P): b^2 P^2 + (r - a^2 r - q b^2) P - q r = 0, the positive root."""
    middle = r - a * a * r - q * b * b
    p = (-middle + math.sqrt(middle**2 + 4 * b * b * q * r)) / (2 * b * b)
    found = solve_lqr(*(np.array([[value]]) for value in (a, b, q, r)))
    assert found.P[0, 0] == pytest.approx(p, rel=1e-6)
    assert found.K[0, 0] == pytest.approx(a * b * p / (r + b * b * p), rel=1e-6, abs=1e-9)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_cost_paid_is_the_cost_promised_and_no_gain_near_pays_less(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(3, 3)), rng.normal(size=(3, 2))
    Q, R = np.diag(rng.uniform(0.1, 2.0, 3)), np.diag(rng.uniform(0.1, 2.0, 2))
    K, P = solve_lqr(A, B, Q, R)
    x0 = rng.normal(size=3)

    def paid(gain: np.ndarray) -> float:
        x, total = x0, 0.0
        for _ in range(400):
            u = -gain @ x
            total += float(x @ Q @ x + u @ R @ u)
            x = A @ x + B @ u
        return total

    assert paid(K) == pytest.approx(float(x0 @ P @ x0), rel=1e-6)
    near = K + 1e-3 * rng.normal(size=K.shape)
    assert paid(near) >= paid(K) * (1 - 1e-9)


def test_commands_are_batched_and_read_signals_in_order() -> None:
    controller: Controller = Lqr(np.array([[1.0, 10.0, 100.0]]), signals=("position", "velocity"))
    state = {"velocity": torch.tensor([[3.0], [0.0]]), "position": torch.tensor([[1.0, 2.0], [0.0, 0.0]])}
    target = torch.tensor([[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    torch.testing.assert_close(controller.command(target, state), torch.tensor([[-321.0], [10.0]]))


@pytest.mark.parametrize(("A", "B", "told"), [
    (np.diag([2.0, 0.5]), np.array([[0.0], [1.0]]), "no regulator"),  # the unstable mode is out of reach
    (np.eye(2), np.ones((1, 2)), "needs A"),
    (np.eye(2), np.ones(2), "needs A"),
])  # fmt: skip
def test_plants_without_a_regulator_are_refused(A: np.ndarray, B: np.ndarray, told: str) -> None:
    with pytest.raises(FermoError, match=told):
        solve_lqr(A, B, np.eye(2), np.eye(1))
