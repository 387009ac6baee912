"""The exact reference: the problem on the data against cvxpy, the extension against its theorem."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.lipschitz_extension.extension import Extension, McShaneWhitney
from fermo.policies.lipschitz_extension.fit import fit
from fermo.policies.lipschitz_extension.kirszbraun import BARRIER, Kirszbraun
from fermo.policies.lipschitz_extension.pairs import Pairs
from fermo.policies.lipschitz_extension.regression import Regression, regress
from fermo.policies.registry import config_class, make_policy
from fermo.policies.verify import verify_checkpoint
from fermo.signal import PlantSpec, Signal
from fermo.training.loops.bc import BcConfig, train_bc
from fermo.training.loops.solve import train_solve
from fermo.training.loops.solve_config import SolveConfig
from tests.policies.plants import SPEC, demonstrations, fitted_policy

CASES = [(40, 2, 1, 0.3), (40, 3, 1, 1.5), (30, 3, 2, 0.2), (30, 4, 3, 1.0), (25, 2, 2, 4.0)]


def problem(n: int, d: int, m: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    points = draw.normal(size=(n, d))
    targets = np.tanh(2 * points @ draw.normal(size=(d, m))) + 0.2 * draw.normal(size=(n, m))
    mass = draw.uniform(0.5, 1.5, n)
    return points, targets, mass / mass.sum()


def solved(n: int, d: int, m: int, alpha: float, tolerance: float = 1e-5) -> Regression:
    return regress(*problem(n, d, m), alpha, tolerance=tolerance)


@pytest.mark.parametrize(("n", "d", "m", "alpha"), CASES)
def test_the_solution_is_the_one_cvxpy_finds(n: int, d: int, m: int, alpha: float):
    points, targets, mass = problem(n, d, m)
    values = cp.Variable((n, m))
    first, second = np.triu_indices(n, 1)
    reach = alpha * np.linalg.norm(points[first] - points[second], axis=1)
    risk = cp.sum(mass @ cp.square(values - targets))
    kept = cp.norm(values[first] - values[second], axis=1) <= reach
    cp.Problem(cp.Minimize(risk), [kept]).solve(solver=cp.CLARABEL)
    oracle = mass @ ((values.value - targets) ** 2).sum(1)
    found = solved(n, d, m, alpha)
    assert found.risk - found.gap - 1e-7 <= oracle <= found.risk + 1e-7
    # The risk is strongly convex: whoever is within the gap of the optimum is near the optimum.
    assert mass @ ((found.values - values.value) ** 2).sum(1) <= found.gap + 1e-6
    assert Pairs(points).steepest(found.values) <= alpha * (1 + 1e-12)


@pytest.mark.parametrize(("n", "d", "m", "alpha"), CASES)
def test_the_multipliers_solve_the_poisson_equation_of_the_graph(n: int, d: int, m: int, alpha: float):
    _, targets, mass = problem(n, d, m)
    found = solved(n, d, m, alpha, tolerance=1e-6)
    laplacian = np.zeros((n, n))
    for (i, j), weight in zip(found.pairs, found.multipliers, strict=True):
        laplacian[[i, j], [i, j]] += weight
        laplacian[[i, j], [j, i]] -= weight
    pulled = np.linalg.solve(np.diag(mass) + laplacian, mass[:, None] * targets)
    assert np.abs(pulled - found.values).max() < 0.02 * np.abs(targets).max()
    assert (found.multipliers > 0).all()


def test_nothing_moves_where_the_data_keep_the_bound():
    points, targets, mass = problem(30, 3, 2)
    steepest = Pairs(points).steepest(targets)
    found = regress(points, targets, mass, steepest * 1.001)
    assert found.risk == 0.0 and found.gap == 0.0 and len(found.pairs) == 0
    assert regress(points, targets, mass, steepest * 0.8).risk > 0.0


def test_two_points_are_drawn_together_as_by_hand():
    points, targets, mass = np.array([[0.0], [1.0]]), np.array([[0.0], [4.0]]), np.array([0.5, 0.5])
    found = regress(points, targets, mass, 1.0, tolerance=1e-10)
    assert found.values[:, 0] == pytest.approx([1.5, 2.5], abs=1e-4)
    assert Pairs(points).residual_floor(targets, 1.0) == pytest.approx(1.5)


def test_a_solver_that_gives_up_says_so():
    with pytest.raises(FermoError, match=r"the gap is .* times the tolerance after 50 steps"):
        regress(*problem(60, 2, 2), 0.1, tolerance=1e-9, max_steps=50)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 25), st.integers(1, 4), st.integers(1, 3), st.floats(0.05, 5.0), st.integers(0, 2**31))
def test_no_map_of_the_bound_beats_the_residual_floor(n: int, d: int, m: int, alpha: float, seed: int):
    points, targets, mass = problem(n, d, m, seed)
    found = regress(points, targets, mass, alpha, tolerance=1e-2)
    errors = np.linalg.norm(found.values - targets, axis=1)
    assert errors.max() >= Pairs(points).residual_floor(targets, alpha) - 1e-9
    assert Pairs(points).steepest(found.values) <= alpha * (1 + 1e-12)


def extension(n: int, d: int, m: int, alpha: float, seed: int = 0, *, feasible: bool = True) -> Extension:
    points, targets, mass = problem(n, d, m, seed)
    values = regress(points, targets, mass, alpha, tolerance=1e-3).values if feasible else targets
    made = (McShaneWhitney if m == 1 else Kirszbraun)(d, m, alpha)
    made.place(torch.tensor(points), torch.tensor(values))
    return made


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 30), st.integers(1, 5), st.integers(1, 4), st.floats(0.1, 10.0), st.booleans(),
       st.integers(0, 2**31))  # fmt: skip
def test_the_bound_holds_between_any_two_queries_whatever_the_data(n, d, m, alpha, feasible, seed):
    made = extension(n, d, m, alpha, seed, feasible=feasible)
    generator = torch.Generator().manual_seed(seed)
    first = 2 * torch.randn(60, d, generator=generator).double()
    near = torch.randn(60, 1, generator=generator).exp() * 0.1
    second = torch.cat((first[:30] + near[:30] * torch.randn(30, d, generator=generator), first[30:].roll(1, 0)))
    rise, run = (made(first) - made(second)).norm(dim=1), (first - second).norm(dim=1)
    assert torch.isfinite(rise).all()
    assert (rise <= alpha * run * (1 + 1e-5) + 1e-7 * alpha).all()


@pytest.mark.parametrize("m", [1, 3])
def test_it_passes_through_data_that_keep_the_bound(m: int):
    made = extension(60, 3, m, 0.7)
    gap = (made(made.points.double()) - made.values).abs().max()
    assert gap <= 0.7 * math.sqrt(BARRIER)


def test_one_output_lies_in_the_middle_of_the_largest_and_the_smallest_extension():
    made = McShaneWhitney(1, 1, 1.0)
    made.place(torch.tensor([[0.0], [2.0]]), torch.tensor([[0.0], [1.0]]))
    at = torch.tensor([[-5.0], [0.0], [1.0], [2.0], [9.0]]).double()
    # By hand: left of 0 the cones from 0 decide on either side, between the points both have a say.
    assert made(at)[:, 0].tolist() == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0], abs=1e-6)


def test_the_vector_extension_solves_its_problem_as_cvxpy_does():
    made = extension(25, 3, 2, 0.8)
    points, values = made.points.double().numpy(), made.values.double().numpy()
    queries = np.random.default_rng(1).normal(size=(5, 3))
    for query, answer in zip(queries, made(torch.tensor(queries)), strict=True):
        theta = cp.Variable(25, nonneg=True)
        linear = (points**2).sum(1) - 4 * points @ query - (values**2).sum(1) / 0.8**2
        objective = cp.sum_squares(theta @ points) + cp.sum_squares(theta @ values) / 0.8**2 + linear @ theta
        on_simplex: Any = cp.sum(theta) == 1
        cp.Problem(cp.Minimize(objective), [on_simplex]).solve(solver=cp.CLARABEL)
        assert answer.numpy() == pytest.approx(theta.value @ values, abs=1e-4)


def test_any_feasible_answer_a_query_would_not_be_an_extension():
    """Why the formula: answers that keep the bound to the data, chosen query by query, can break it to each other."""
    made = Kirszbraun(1, 2, 1.0)
    made.place(torch.tensor([[0.0], [2.0]]), torch.zeros(2, 2))
    queries, chosen = torch.tensor([[0.9], [1.1]]), torch.tensor([[0.0, 0.9], [0.0, -0.9]])
    assert (torch.cdist(chosen, made.values) <= torch.cdist(queries, made.points) + 1e-6).all(), "each alone is allowed"
    assert (chosen[0] - chosen[1]).norm() > 8 * (queries[0] - queries[1]).norm(), "together they are not"
    assert made(queries.double()).abs().max() < 1e-4


@pytest.mark.parametrize("m", [1, 3])
def test_gradients_agree_with_finite_differences(m: int):
    made = extension(30, 3, m, 0.8)
    queries = torch.randn(6, 3, generator=torch.Generator().manual_seed(3)).double()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda q: made(q[None])[0]))(queries)
    step = 1e-4
    shifts = step * torch.eye(3).double()
    numeric = torch.stack([(made(queries + s) - made(queries - s)) / (2 * step) for s in shifts], -1)
    assert torch.allclose(jacobian, numeric, atol=5e-3 * 0.8)


def test_a_scalar_plant_is_extended_by_mcshane_and_whitney():
    state = Signal.uniform(name="state", shape=(4,), unit="rad")
    spec = PlantSpec(observations=(state,), commands=(Signal.uniform(name="force", shape=(), unit="N"),), rate_hz=50.0)
    policy: Any = make_policy("lipschitz_extension", spec, config_class("lipschitz_extension")(alpha=2.0))
    obs = torch.randn(200, 4, generator=torch.Generator().manual_seed(0))
    force = 3.0 * obs.sum(1, keepdim=True)
    result = train_solve(policy, obs, force, config=SolveConfig(samples=150))
    assert isinstance(policy.network, McShaneWhitney)
    assert result.metrics["points"] == 150 and result.metrics["steepest_values"] <= 2.0 * (1 + 1e-9)
    certificate = policy.certificate()
    assert certificate["method"] == "McShane-Whitney extension"
    assert certificate["steepest_slope_found"] <= certificate["lipschitz"] * (1 + 1e-4)


def test_the_reference_fits_no_worse_than_a_network_of_the_same_bound():
    observations, actions = demonstrations(128)
    exact = fitted_policy("lipschitz_extension", alpha=0.5)
    network = fitted_policy("lipschitz_bc", construction="sandwich", activation="relu", gamma=0.5)
    train_bc(network, observations, actions, config=BcConfig(steps=300, batch_size=128, lr=1e-2, warmup_steps=5))
    exact.fit_normalization(observations, actions)
    metrics = exact.solve(observations, actions, tolerance=1e-4, max_steps=20_000)
    batch = {"observation": observations, "action": actions[:, None]}
    reached, lowest = float(network(batch)[0].detach()), float(exact(batch)[0])
    assert lowest == pytest.approx(metrics["loss"], rel=1e-3)
    assert lowest <= reached


def test_a_checkpoint_carries_its_data_and_a_certificate_that_can_be_proved_again(tmp_path):
    policy = fitted_policy("lipschitz_extension", alpha=3.0, action_base="joint_position")
    folder = save_checkpoint(policy, tmp_path / "checkpoint")
    loaded: Any = load_checkpoint(folder)
    assert torch.equal(loaded.network.points, policy.network.points)
    assert not any(parameter.requires_grad for parameter in policy.parameters())
    stated = verify_checkpoint(folder)
    assert stated["by_construction"] and stated["steepest_demonstrations"] <= 3.0 * (1 + 1e-4)
    script = (
        "import sys; from fermo.policies.verify import verify_checkpoint; "
        f"verify_checkpoint({str(folder)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    path = folder / "certificate.json"
    path.write_text(json.dumps(stated | {"lipschitz": 2.0}))
    with pytest.raises(FermoError, match="states a 'lipschitz' that its data do not have"):
        verify_checkpoint(folder)


def test_each_sensitivity_row_bounds_the_action_in_si_units():
    policy = fitted_policy("lipschitz_extension", alpha=3.0, action_base="joint_position")
    obs = demonstrations(60)[0]
    generator = torch.Generator().manual_seed(0)
    for row in policy.certificate()["sensitivity"]:
        columns = SPEC.observation_slices()[row["observation"]]
        change = torch.zeros_like(obs)
        change[:, columns] = 0.1 * policy.observation_normalizer.std[columns] * torch.randn(
            obs[:, columns].shape, generator=generator
        )
        moved = (policy.unclamped_action(obs + change) - policy.unclamped_action(obs)).norm(dim=1)
        assert (moved <= row["gain"] * change.norm(dim=1) * (1 + 1e-3) + 1e-5).all()


def fitted(points, targets, alpha: float = 1.0, interpolate: bool = False):
    return fit(points, targets, alpha, interpolate=interpolate, tolerance=1e-3, max_steps=10_000)


def test_interpolation_names_the_smallest_bound_that_can():
    points, targets, _ = problem(30, 3, 2)
    needed = Pairs(points).steepest(targets)
    with pytest.raises(FermoError, match=f"they force at least {needed:.6g}"):
        fitted(points, targets, needed * 0.99, interpolate=True)
    found = fitted(points, targets, needed * 1.001, interpolate=True)
    assert found.metrics["loss"] == 0.0


def test_equal_observations_share_the_mean_of_their_actions():
    points, targets, _ = problem(30, 3, 2)
    points[7], targets[7] = points[3], targets[3] + 1.0
    found = fitted(points, targets, 100.0)
    assert len(found.points) == 29
    assert found.metrics["residual_floor"] == pytest.approx(0.5 * math.sqrt(2.0))
    assert found.metrics["loss"] == pytest.approx(2 * 2 * 0.25 / 30 / 2, rel=1e-3)
    with pytest.raises(FermoError, match="samples 3 and 7 have one observation and different actions"):
        fitted(points, targets, 100.0, interpolate=True)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (np.random.default_rng(0).normal(size=(5, 8)), "5 demonstrations show 5 distinct observations of 8 channels"),
        (np.ones((40, 3)), "show 1 distinct observations"),
    ],
)
def test_too_few_distinct_demonstrations_are_refused(points: np.ndarray, message: str):
    with pytest.raises(FermoError, match=message):
        fitted(points, np.zeros((len(points), 2)))


@pytest.mark.parametrize(
    ("kind", "settings_", "message"),
    [
        ("policy", {"alpha": 0.0}, "alpha must be positive"),
        ("policy", {"alpha": math.nan}, "alpha must be positive"),
        ("loop", {"samples": 0}, "samples must be positive"),
        ("loop", {"tolerance": -1.0}, "tolerance must be positive"),
    ],
)
def test_bad_settings_are_refused(kind: str, settings_: dict, message: str):
    with pytest.raises(FermoError, match=message):
        (config_class("lipschitz_extension") if kind == "policy" else SolveConfig)(**settings_)
