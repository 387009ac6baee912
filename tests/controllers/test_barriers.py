"""Every row against the barrier that it stands for, at true and at mismeasured states."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings

from fermo.controllers.barriers import (
    AcceleratedHalfSpaces,
    JointHalfSpaces,
    JointVelocityLimits,
    PointHalfSpaces,
    double_integrator,
)
from fermo.controllers.kinematics import SerialChain
from tests.controllers.chains import ARM, SEVEN_AXES, compile_model

SEEDS = st.integers(0, 2**32 - 1)
N, DT, GAMMA = 16, 0.04, 0.3
PLANES = np.array([[0.0, 0.0, 1.0, 0.1], [0.6, -0.8, 0.0, -0.4]])
CHAIN = SerialChain.from_model(compile_model(SEVEN_AXES), "tool")


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def value(barrier, state: dict[str, np.ndarray], command: np.ndarray) -> np.ndarray:
    """``A u - b`` where the rows are exact."""
    rows, bounds = barrier.rows(state, command)
    return (rows @ command[:, :, None])[..., 0] - bounds


def heights(q: np.ndarray) -> np.ndarray:
    return CHAIN.forward(torch.from_numpy(q))[0].numpy() @ PLANES[:, :3].T - PLANES[:, 3]


def point_barrier(**changes) -> PointHalfSpaces:
    settings = {"period": DT, "size": 7, "gamma": GAMMA} | changes
    return PointHalfSpaces(CHAIN, PLANES[:, :3], PLANES[:, 3], ["floor", "wall"], **settings)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_joint_rows_are_the_discrete_condition(seed: int) -> None:
    q, u = draw(seed, N, 3), draw(seed + 1, N, 3)
    low, high = -np.ones(3), np.array([1.0, 2.0, np.inf])
    barrier = JointHalfSpaces.limits(low, high, ("a", "b", "c"), period=DT, gamma=GAMMA)
    assert barrier.labels == ("a low", "b low", "c low", "a high", "b high")

    def h(q: np.ndarray) -> np.ndarray:
        return np.hstack([q - low, (high - q)[:, :2]])

    np.testing.assert_allclose(value(barrier, {"joint_position": q}, u), h(q + DT * u) - (1 - GAMMA) * h(q), atol=1e-12)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_point_rows_are_exact_where_they_are_linearised_and_tangent_there(seed: int) -> None:
    q, u = draw(seed, N, 7), draw(seed + 1, N, 7)
    state, barrier = {"joint_position": q}, point_barrier()

    def condition(u: np.ndarray) -> np.ndarray:
        return heights(q + DT * u) - (1 - GAMMA) * heights(q)

    np.testing.assert_allclose(value(barrier, state, u), condition(u), atol=1e-12)
    rows, _ = barrier.rows(state, u)
    step = 1e-6 * draw(seed + 2, N, 7)
    change = (condition(u + step) - condition(u - step)) / 2
    np.testing.assert_allclose((rows @ step[:, :, None])[..., 0], change, atol=1e-12, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, size=st.floats(1e-4, 0.1))
def test_a_row_met_with_margin_at_the_measured_state_is_met_at_the_true_one(seed: int, size: float) -> None:
    q, u = draw(seed, N, 7), draw(seed + 1, N, 7)
    error = size * np.random.default_rng(seed).random(7)
    measured = q + error * np.sign(draw(seed + 2, N, 7))
    exact, robust = point_barrier(), point_barrier(error=error)
    margin = value(exact, {"joint_position": measured}, u) - value(robust, {"joint_position": measured}, u)
    assert (margin > 0).all()
    lost = value(exact, {"joint_position": measured}, u) - value(exact, {"joint_position": q}, u)
    assert (lost <= margin).all()
    assert (margin <= 6 * size * float(CHAIN.reach().sum())).all()  # and it is not just enormous


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_rows_change_by_no_more_than_they_say(seed: int) -> None:
    q, u, other = draw(seed, N, 7), draw(seed + 1, N, 7), draw(seed + 2, N, 7)
    barrier = point_barrier()
    change = value(barrier, {"joint_position": q}, u) - value(barrier, {"joint_position": q}, other)
    assert (np.abs(change) <= barrier.lipschitz * np.linalg.norm(u - other, axis=1, keepdims=True)).all()


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_between_two_periods_the_dip_is_bounded_by_the_curvature(seed: int) -> None:
    q, step = draw(seed, N, 7), 0.3 * draw(seed + 1, N, 7)
    ends = np.minimum(heights(q), heights(q + step))
    dip = 0.125 * np.einsum("ni,ij,nj->n", np.abs(step), point_barrier().curvature, np.abs(step))
    for fraction in np.linspace(0, 1, 9):
        assert (heights(q + fraction * step) >= ends - dip[:, None]).all()


def test_without_climbing_standing_still_is_always_allowed() -> None:
    q = draw(0, 400, 7)
    state, still = {"joint_position": q}, np.zeros((400, 7))
    assert (heights(q) < 0).any()
    assert (value(point_barrier(error=0.01, climb=False), state, still) >= -1e-12).all()
    assert (value(point_barrier(error=0.01), state, still) < 0).any()
    above = heights(q) > 1.0  # where the margin does not show
    both = [value(point_barrier(climb=climb), state, 3 * q)[above] for climb in (True, False)]
    np.testing.assert_allclose(both[0], both[1], atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_accelerated_rows_are_the_condition_on_psi(seed: int) -> None:
    q, v, a = draw(seed, N, 2), draw(seed + 1, N, 2), draw(seed + 2, N, 2)
    normals, offsets = draw(seed + 3, 3, 2), draw(seed + 4, 3)
    barrier = AcceleratedHalfSpaces(
        normals, offsets, ["x", "y", "z"], double_integrator, gain_bound=1.0, period=DT, decay=5.0, gamma=GAMMA,
        largest_acceleration=8.0,
    )  # fmt: skip
    dip = 5.0 * 8.0 * DT**2 / 8

    def psi(q: np.ndarray, v: np.ndarray) -> np.ndarray:
        return v @ normals.T + 5.0 * (q @ normals.T - offsets) - dip

    after = psi(q + DT * v + 0.5 * DT**2 * a, v + DT * a)
    found = value(barrier, {"joint_position": q, "joint_velocity": v}, a)
    np.testing.assert_allclose(found, after - (1 - GAMMA) * psi(q, v), atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS)
def test_velocity_rows_are_the_discrete_condition(seed: int) -> None:
    v, u = draw(seed, N, 3), draw(seed + 1, N, 2)
    drift, gain = draw(seed + 2, N, 3), draw(seed + 3, N, 3, 2)
    largest = np.array([1.0, np.inf, 2.0])
    barrier = JointVelocityLimits(
        largest, ("a", "b", "c"), lambda q, v: (drift, gain), gain_bound=9.0, period=DT, gamma=GAMMA
    )

    def h(v: np.ndarray) -> np.ndarray:
        return np.hstack([largest + v, largest - v])[:, [0, 2, 3, 5]]

    after = v + DT * (drift + (gain @ u[:, :, None])[..., 0])
    found = value(barrier, {"joint_position": v, "joint_velocity": v}, u)
    np.testing.assert_allclose(found, h(after) - (1 - GAMMA) * h(v), atol=1e-12)


@pytest.mark.parametrize("xml", [ARM, SEVEN_AXES])
def test_reach_bounds_every_column_of_the_jacobian(xml: str) -> None:
    chain = SerialChain.from_model(compile_model(xml), "tool")
    low, high = chain.low.clamp(min=-3.0), chain.high.clamp(max=3.0)
    q = low + (high - low) * torch.rand(500, len(low), dtype=torch.float64)
    columns = chain.forward(q)[2][:, :3].norm(dim=1)
    assert (columns <= chain.reach() + 1e-12).all()
    assert (columns.max(dim=0).values > 0.5 * chain.reach()).any()
