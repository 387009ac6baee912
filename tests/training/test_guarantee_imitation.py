"""The imitation bounds on systems small enough that each is met with equality, or can be searched for a breach."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.training.guarantee.imitation import (
    Forgetting,
    Premises,
    bounds,
    fill_radius,
    policy_error_bound,
    residual_floor,
)
from fermo.training.guarantee.plants import StageCost


@pytest.mark.parametrize(("per_side", "dimensions"), [(5, 1), (4, 2), (3, 3)])
def test_the_fill_radius_of_a_grid_is_half_its_diagonal(per_side: int, dimensions: int) -> None:
    axis = np.linspace(0.0, 1.0, per_side)
    grid = np.stack(np.meshgrid(*[axis] * dimensions), axis=-1).reshape(-1, dimensions)
    centres = grid[(grid < 1).all(axis=1)] + 0.5 / (per_side - 1)
    assert fill_radius(grid, centres) == pytest.approx(0.5 * np.sqrt(dimensions) / (per_side - 1))
    assert fill_radius(grid, grid) == 0.0


@given(seed=st.integers(0, 10_000), slope=st.floats(0.1, 5.0))
@settings(max_examples=20, deadline=None)
def test_no_pair_of_lipschitz_functions_breaks_the_error_bound(seed: int, slope: float) -> None:
    """Expert: a maximum of cones of slope L*; imitator: McShane's extension, of slope L, of noisy samples of it."""
    rng = np.random.default_rng(seed)
    data, probes, peaks = rng.uniform(size=(40, 2)), rng.uniform(size=(400, 2)), rng.uniform(size=(5, 3))

    def cones(x: np.ndarray, apexes: np.ndarray, heights: np.ndarray, steep: float) -> np.ndarray:
        return (heights - steep * np.linalg.norm(x[:, None] - apexes, axis=2)).max(axis=1)

    def expert(x: np.ndarray) -> np.ndarray:
        return cones(x, peaks[:, :2], peaks[:, 2], slope)

    L = 1.5 * slope
    values = expert(data) + 0.05 * rng.uniform(-1, 1, 40)

    def imitator(x: np.ndarray) -> np.ndarray:
        return cones(x, data, values, L)

    train_error = float(np.abs(imitator(data) - expert(data)).max())
    bound = policy_error_bound(train_error, L, slope, fill_radius(data, probes))
    assert np.abs(imitator(probes) - expert(probes)).max() <= bound


def test_a_steep_expert_leaves_a_floor_under_the_training_error() -> None:
    """Two samples 1 apart with actions 5 apart: a slope of 2 misses one of them by (5 - 2) / 2 at least."""
    observations, actions = np.array([[0.0], [1.0]]), np.array([[0.0], [5.0]])
    assert residual_floor(observations, actions, 2.0) == 1.5
    assert residual_floor(observations, actions, 5.0) == 0.0


@given(a=st.floats(0.0, 0.95), b=st.floats(0.1, 3.0), error=st.floats(0.01, 1.0))
@settings(max_examples=25, deadline=None)
def test_a_scalar_loop_deviates_by_its_radius_and_no_more(a: float, b: float, error: float) -> None:
    """``x+ = a x + b e`` with e constant tends to ``b e / (1 - a)``: C = 1, and the bound is attained."""
    forgets = Forgetting(overshoot=1.0, rho=a, input_slope=b, region=np.inf)
    x = 0.0
    for _ in range(2000):
        x = a * x + b * error
    assert x == pytest.approx(forgets.radius(error), rel=1e-9)


@given(a=st.floats(0.0, 0.9), b=st.floats(0.1, 1.0), grow=st.floats(0.0, 3.0), error=st.floats(0.01, 1.0))
@settings(max_examples=25, deadline=None)
def test_an_error_that_grows_with_the_state_dies_out_only_below_one_minus_rho(
    a: float, b: float, grow: float, error: float
) -> None:
    """``x+ = a x + b (e + g x)`` is stable when ``b g < 1 - a``, and then tends to ``b e / (1 - a - b g)``."""
    forgets = Forgetting(overshoot=1.0, rho=a, input_slope=b, region=np.inf)
    radius = forgets.radius(error, kappa=forgets.small_gain(grow))
    assert (radius is None) == (a + b * grow >= 1)
    if radius is not None and a + b * grow < 0.99:
        x = 0.0
        for _ in range(5000):
            x = a * x + b * (error + grow * x)
        assert x == pytest.approx(radius, rel=1e-6)


def premises(**changes: object) -> Premises:
    loop = Forgetting(overshoot=2.0, rho=0.9, input_slope=0.1, region=100.0)
    values = {"samples": 10, "train_error": 0.1, "error_floor": 0.0, "lipschitz": 3.0, "expert_lipschitz": 2.0,
              "fill": 0.02, "expert": loop, "policy": loop, "cost_x": 1.0, "cost_u": 0.5, "zeta": 0.05}  # fmt: skip
    return Premises(**(values | changes))  # type: ignore[arg-type]


def test_every_bound_is_its_formula() -> None:
    """e = 0.1 + 5 * 0.02 = 0.2; R = 0.2 * 0.2 / 0.1 = 0.4; kappa = 0.2 * 5 = 1 >= 0.1; R_m = 0.2 * 0.15 / 0.1."""
    made = {name: bound.value for name, bound in bounds(premises()).items()}
    assert made == {
        "policy error": pytest.approx(0.2),
        "deviation from the expert": pytest.approx(0.4),
        "deviation, error growing off the data": None,
        "regret": pytest.approx((1 + 0.5 * 2) * 0.4 + 0.5 * 0.2),
        "deviation under measurement error": pytest.approx(0.3),
        "cost of measurement error": pytest.approx((1 + 0.5 * 3) * 0.3 + 0.5 * 0.15),
    }


def test_a_radius_beyond_its_region_is_not_established() -> None:
    near = Forgetting(overshoot=2.0, rho=0.9, input_slope=0.1, region=0.35)
    made = bounds(premises(expert=near, policy=None))
    assert not made["deviation from the expert"].established and not made["regret"].established
    assert made["policy error"].established
    assert made["cost of measurement error"].value is None
    assert bounds(premises(policy=near))["deviation under measurement error"].established


def test_more_samples_and_smaller_errors_never_loosen_a_bound() -> None:
    loose, tight = bounds(premises(fill=0.2, zeta=0.1)), bounds(premises(fill=0.1, zeta=0.05))
    for name in loose:
        if tight[name].value is not None:
            assert tight[name].value < loose[name].value  # type: ignore[operator]


def test_cost_slopes_bound_every_difference_in_the_box() -> None:
    rng = np.random.default_rng(0)
    cost = StageCost(q=np.array([1.0, 3.0]), r=np.array([0.5]))
    box, unit, limit, action_unit = np.array([0.5, 2.0]), np.array([0.1, 0.4]), np.array([2.0]), np.array([1.5])
    c_x, c_u = cost.slopes(box, limit, unit, action_unit)
    x, u = box * rng.uniform(-1, 1, (2, 500, 2)), limit * rng.uniform(-1, 1, (2, 500, 1))
    paid = [cost.mean(x[i][None], u[i][None]) for i in range(2)]
    moved_x, moved_u = ((a[0] - a[1]) / scale for a, scale in ((x, unit), (u, action_unit)))
    allowed = c_x * np.linalg.norm(moved_x, axis=1) + c_u * np.linalg.norm(moved_u, axis=1)
    assert (np.abs(paid[0] - paid[1]) <= allowed).all()


def test_a_loop_that_does_not_forget_is_refused() -> None:
    with pytest.raises(FermoError, match="forgets with"):
        Forgetting(overshoot=1.0, rho=1.0, input_slope=0.1, region=1.0)
