"""Linear loops: peak gains, ellipsoids, contractions and floors against closed forms and against simulation."""

from __future__ import annotations

import math

import cvxpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_lyapunov

from fermo.errors import FermoError
from fermo.training.guarantee.contraction import (
    certify_contraction,
    certify_tracking,
    is_contraction,
    largest_error_slope,
)
from fermo.training.guarantee.ellipsoid import Ellipsoid, invariant_ellipsoid, is_invariant
from fermo.training.guarantee.floor import stability_floor
from fermo.training.guarantee.peak_gain import peak_gain
from fermo.training.guarantee.sdp import InaccurateError, is_positive_definite, solve

Array = np.ndarray


def scalar(a: float, b: float = 1.0) -> tuple[Array, Array]:
    return np.array([[a]]), np.array([[b]])


def random_loop(seed: int, n: int = 3, m: int = 1, radius: float = 0.9) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    A, B = rng.normal(size=(n, n)), rng.normal(size=(n, m))
    return A * radius / np.abs(np.linalg.eigvals(A)).max(), B


@given(a=st.floats(-0.99, 0.99), b=st.floats(0.1, 5.0))
@settings(max_examples=40, deadline=None)
def test_a_scalar_loop_has_the_gain_of_a_geometric_series(a: float, b: float) -> None:
    gain = peak_gain(*scalar(a, b))
    assert gain.input[0] == pytest.approx(b / (1 - abs(a)), rel=1e-9)
    assert gain.residual[0, 0] == pytest.approx(1 / (1 - abs(a)), rel=1e-9)
    assert gain.start[0, 0] == 1.0


@given(seed=st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_the_peak_gain_is_reached_by_the_worst_input_and_exceeded_by_none(seed: int) -> None:
    A, B = random_loop(seed, m=2)
    gain, steps, state = peak_gain(A, B), 400, seed % 3
    powers = [B]
    for _ in range(steps - 1):
        powers.append(A @ powers[-1])
    rows = np.stack([power[state] for power in powers[::-1]])
    worst = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300)
    rng = np.random.default_rng(seed)
    other = rng.normal(size=(20, steps, 2))
    other /= np.linalg.norm(other, axis=2, keepdims=True)
    x = np.zeros((21, 3))
    for w in np.concatenate([worst[None], other]).transpose(1, 0, 2):
        x = x @ A.T + w @ B.T
        assert (np.abs(x) <= gain.input * (1 + 1e-9)).all()
    assert x[0, state] == pytest.approx(gain.input[state], rel=1e-5)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_starts_inputs_and_residuals_together_stay_in_the_sum_of_their_gains(seed: int) -> None:
    A, B = random_loop(seed)
    rng = np.random.default_rng(seed)
    x0, r = rng.uniform(0, 1, 3), rng.uniform(0, 0.1, 3)
    gain = peak_gain(A, B)
    reach = gain.start @ x0 + gain.input * 0.5 + gain.residual @ r
    x = x0 * rng.choice([-1.0, 1.0], (50, 3))
    for _ in range(200):
        assert (np.abs(x) <= reach).all()
        x = x @ A.T + 0.5 * rng.choice([-1.0, 1.0], (50, 1)) @ B.T + r * rng.choice([-1.0, 1.0], (50, 3))


@pytest.mark.parametrize("a", [1.0, 1.5, -1.01])
def test_an_unstable_loop_has_no_bound(a: float) -> None:
    for refused in (peak_gain, lambda A, B: invariant_ellipsoid([(A, B)]), lambda A, B: certify_contraction([(A, B)])):
        with pytest.raises(FermoError, match=r"unstable|not stable"):
            refused(*scalar(a))


@given(a=st.floats(-0.95, 0.95), b=st.floats(0.1, 5.0))
@settings(max_examples=25, deadline=None)
def test_a_scalar_ellipsoid_is_the_interval_of_the_peak_gain(a: float, b: float) -> None:
    """``q = b^2 / (tau (1 - a^2 / (1 - tau)))`` is least at ``tau = 1 - |a|``, where its root is ``b / (1 - |a|)``."""
    assert invariant_ellipsoid([scalar(a, b)]).half_widths[0] == pytest.approx(b / (1 - abs(a)), rel=1e-3)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_one_vertex_solves_the_lyapunov_equation_and_a_program_finds_the_same(seed: int) -> None:
    A, B = random_loop(seed)
    alone, twice = invariant_ellipsoid([(A, B)]), invariant_ellipsoid([(A, B), (A, B)])
    Q = solve_discrete_lyapunov(A / math.sqrt(1 - alone.tau), B @ B.T / alone.tau)
    np.testing.assert_allclose(alone.Q, Q, atol=1e-4 * np.trace(Q))
    assert np.trace(twice.Q) == pytest.approx(np.trace(alone.Q), rel=1e-3)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_no_input_and_no_switching_between_vertices_leaves_the_ellipsoid(seed: int) -> None:
    rng = np.random.default_rng(seed)
    A, B = random_loop(seed, radius=0.7)
    vertices = [(A + 0.05 * rng.normal(size=A.shape), B + 0.1 * rng.normal(size=B.shape)) for _ in range(3)]
    made = invariant_ellipsoid(vertices)
    inverse = np.linalg.inv(made.Q)
    x = np.zeros((64, 3))
    for _ in range(150):
        share = rng.dirichlet(np.ones(3) * 0.3, size=64)  # any member of the hull, another for each world and step
        As, Bs = (np.einsum("wv,vij->wij", share, np.stack(parts)) for parts in zip(*vertices, strict=True))
        x = np.einsum("wij,wj->wi", As, x)
        outwards = np.where(np.einsum("wi,ij,wj->w", x, inverse, Bs[:, :, 0]) < 0, -1.0, 1.0)
        x = x + outwards[:, None] * Bs[:, :, 0]
        assert (np.einsum("wi,ij,wj->w", x, inverse, x) <= 1 + 1e-9).all()


def test_an_ellipsoid_a_little_too_small_is_not_accepted() -> None:
    A, B = random_loop(0)
    made = invariant_ellipsoid([(A, B)])
    assert is_invariant(made, [(A, B)])
    assert not is_invariant(Ellipsoid(Q=0.99 * made.Q, tau=made.tau), [(A, B)])


@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_one_loop_contracts_at_its_spectral_radius_and_no_faster(seed: int) -> None:
    A, B = random_loop(seed)
    made = certify_contraction([(A, B)])
    assert 0.9 <= made.rho <= 0.9 + 2e-2
    assert is_contraction(made, [(A, B)]) and is_positive_definite(made.P)
    x = np.random.default_rng(seed).normal(size=3)
    before = x @ made.P @ x
    assert (A @ x) @ made.P @ (A @ x) <= made.rho**2 * before * (1 + 1e-9)


def test_two_stable_loops_that_together_are_not_have_no_common_norm() -> None:
    """Each has spectral radius 0.5, their product 4.2."""
    one, other = np.array([[0.5, 2.0], [0.0, 0.5]]), np.array([[0.5, 0.0], [2.0, 0.5]])
    assert np.abs(np.linalg.eigvals(one @ other)).max() > 1
    B = np.ones((2, 1))
    with pytest.raises(FermoError, match="no common quadratic norm"):
        certify_contraction([(one, B), (other, B)])


@pytest.mark.parametrize(("a", "b"), [(0.5, 1.0), (-0.8, 0.25), (0.0, 2.0)])
def test_a_scalar_loop_stands_the_error_slope_that_takes_it_to_one(a: float, b: float) -> None:
    assert largest_error_slope([scalar(a, b)]) == pytest.approx((1 - abs(a)) / b, rel=2e-3)
    half = (1 - abs(a)) / b / 2
    assert certify_contraction([scalar(a, b)], error_slope=half).rho == pytest.approx(abs(a) + b * half, rel=2e-2)


def test_tracking_trades_speed_for_roundness() -> None:
    """A near-defective loop: at its own radius the norm is a needle, a slower one is nearly round."""
    A, B = np.array([[0.9, 1.0], [0.0, 0.89]]), np.ones((2, 1))
    fast, track = certify_contraction([(A, B)]), certify_tracking([(A, B)])
    assert track.overshoot / (1 - track.rho) <= fast.overshoot / (1 - fast.rho)
    x, largest = np.eye(2), 1.0
    for step in range(1, 200):
        x = A @ x
        largest = max(largest, np.linalg.norm(x, 2) / track.rho**step)
    assert largest <= track.overshoot


def test_a_tampered_certificate_fails() -> None:
    A, B = random_loop(1)
    made = certify_contraction([(A, B)])
    for change in ({"rho": made.rho * 0.9}, {"P": np.diag([1.0, 1.0, -1.0])}, {"P": np.linalg.inv(made.P)}):
        assert not is_contraction(type(made)(**{**vars(made), **change}), [(A, B)])


def test_what_the_solver_does_not_call_optimal_is_an_error() -> None:
    x = cvxpy.Variable()
    with pytest.raises(InaccurateError, match=r"'unbounded'.*nothing is certified"):
        solve(cvxpy.Problem(cvxpy.Minimize(x), [x <= 1]), "a test")


@given(a=st.floats(1.1, 3.0), b=st.floats(0.2, 3.0), c=st.floats(0.2, 3.0))
@settings(max_examples=15, deadline=None)
def test_a_scalar_floor_takes_the_radius_to_one(a: float, b: float, c: float) -> None:
    """``|a + b k c| < 1`` first at ``k = -(a - 1) / (b c)``."""
    floor, K = stability_floor(*scalar(a, b), np.array([[c]]))
    assert floor == pytest.approx((a - 1) / (b * c), rel=5e-3) and K[0, 0] < 0


def test_a_stable_plant_needs_nothing_and_a_blind_one_is_refused() -> None:
    assert stability_floor(*scalar(0.5))[0] == 0.0
    with pytest.raises(FermoError, match="full column rank"):
        stability_floor(2 * np.eye(2), np.eye(2), np.array([[1.0, 0.0]]))
