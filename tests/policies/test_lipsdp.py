"""Bounds against a conic solver, against each other, and against the slopes that networks really have."""

import math
from itertools import pairwise
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.policies.certificates import certificate
from fermo.policies.certificates.bounds import closed_forms, liplt, product, spectral_norm
from fermo.policies.certificates.certificate import LIPSDP, feasible_starts, tightest_proof
from fermo.policies.certificates.check_certificate import (
    PRODUCT,
    CertificateError,
    linear_forms,
    proved_bound,
    quadratic_form,
    rounding,
)
from fermo.policies.certificates.deviation import box_bound
from fermo.policies.certificates.falsifier import steepest_slope
from fermo.policies.certificates.lipsdp import SearchConfig, SearchFailed, _Barrier

TIGHT = SearchConfig(tolerance=1e-6)
SIZES = [(4, 10, 2), (5, 12, 10, 3), (3, 8, 8, 8, 1), (2, 6, 4, 6, 2)]
ACTIVATIONS = ["relu", "tanh", "groupsort"]


def random_weights(seed: int, sizes: tuple[int, ...] = (5, 12, 10, 3)) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(o, i)) / math.sqrt(i) for i, o in pairwise(sizes)]


def random_base(seed: int, weights: list[np.ndarray], scale: float) -> np.ndarray:
    return scale * np.random.default_rng([seed, 1]).normal(size=(len(weights[-1]), weights[0].shape[1]))


def activate(value: torch.Tensor, activation: str) -> torch.Tensor:
    if activation != "groupsort":
        return {"relu": torch.relu, "tanh": torch.tanh}[activation](value)
    first, second = value.chunk(2, -1)
    return torch.cat((torch.maximum(first, second), torch.minimum(first, second)), -1)


def network(weights: list[np.ndarray], base: np.ndarray, activation: str, biases: list[torch.Tensor]):
    tensors = [torch.as_tensor(weight) for weight in weights]

    def forward(value: torch.Tensor) -> torch.Tensor:
        hidden = value
        for weight, bias in zip(tensors[:-1], biases, strict=True):
            hidden = activate(hidden @ weight.T + bias, activation)
        return hidden @ tensors[-1].T + value @ torch.as_tensor(base).T

    return forward


def random_biases(weights: list[np.ndarray], generator: torch.Generator) -> list[torch.Tensor]:
    return [torch.randn(len(weight), generator=generator).double() for weight in weights[:-1]]


def semidefinite_bound(weights: list[np.ndarray], base: np.ndarray) -> float:
    """LipSDP-neuron in its block form of the literature, by a conic solver."""
    sizes = [weights[0].shape[1], *(len(weight) for weight in weights[:-1])]
    square, multipliers = cp.Variable(), [cp.Variable(size, nonneg=True) for size in sizes[1:]]
    blocks: list[list[Any]] = [[cp.Constant(np.zeros((a, b))) for b in sizes] for a in sizes]
    for layer, (weight, multiplier) in enumerate(zip(weights, multipliers, strict=False), start=1):
        blocks[layer - 1][layer] = -weight.T @ cp.diag(multiplier)
        blocks[layer][layer - 1] = blocks[layer - 1][layer].T
        blocks[layer][layer] = 2 * cp.diag(multiplier)
    blocks[0][0] = square * np.eye(sizes[0])
    output = np.hstack([base, *(np.zeros((len(base), size)) for size in sizes[1:-1]), weights[-1]])
    matrix = cp.bmat(blocks) - output.T @ output
    return math.sqrt(minimum(square, [(matrix + matrix.T) / 2 >> 0]))


def minimum(objective: Any, constraints: list[Any]) -> float:
    problem = cp.Problem(cp.Minimize(objective), constraints)
    value: Any = problem.solve(solver=cp.CLARABEL)
    assert problem.status == cp.OPTIMAL
    return float(value)


@pytest.mark.parametrize(("sizes", "scale"), [((4, 10, 2), 0.0), ((5, 12, 10, 3), 0.7), ((3, 8, 8, 8, 1), 0.3)])
def test_newton_agrees_with_a_conic_solver(sizes, scale):
    weights = random_weights(1, sizes)
    base = random_base(1, weights, scale)
    ours = tightest_proof(weights, base, "relu", TIGHT)
    assert (ours.method, ours.note) == (LIPSDP, "")
    assert ours.bound == pytest.approx(semidefinite_bound(weights, base), rel=2e-5)


def test_newton_agrees_with_a_conic_solver_on_groupsort_and_on_boxes():
    weights = random_weights(2, (4, 12, 8, 3))
    base = random_base(2, weights, 0.4)
    for activation in ("groupsort", "tanh"):
        forms = linear_forms(weights, base, activation)
        multipliers, inputs = cp.Variable(len(forms.a), nonneg=True), cp.Variable(4)
        cross = forms.a.T @ cp.diag(multipliers) @ forms.b
        matrix = cp.diag(cp.hstack([inputs, np.zeros(len(forms.a))])) - cross - cross.T - forms.output.T @ forms.output
        for constraints, ours in (
            ([inputs == cp.sum(inputs) / 4], 2 * tightest_proof(weights, base, activation, TIGHT).bound),
            ([], box_bound(weights, base, activation)),
        ):
            exact = math.sqrt(minimum(cp.sum(inputs), [matrix >> 0, *constraints]))
            assert ours == pytest.approx(exact, rel=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**31), sizes=st.sampled_from(SIZES), activation=st.sampled_from(ACTIVATIONS),
    scale=st.sampled_from([0.0, 0.1, 1.0, 10.0]), spread=st.sampled_from([0.0, 1.0]),
)  # fmt: skip
def test_lipsdp_lies_between_the_slope_found_and_every_other_bound(seed, sizes, activation, scale, spread):
    weights = [weight * 10 ** (spread * (2 * i - 1)) for i, weight in enumerate(random_weights(seed, sizes))]
    base, generator = random_base(seed, weights, scale), torch.Generator().manual_seed(seed)
    forward = network(weights, base, activation, random_biases(weights, generator))
    points = torch.randn(24, sizes[0], generator=generator).double()
    found = steepest_slope(forward, points, steps=15, generator=generator)
    proof = tightest_proof(weights, base, activation)
    assert found <= proof.bound * (1 + 1e-9)
    for bound, _ in closed_forms(weights, base, activation).values():
        assert proof.bound <= bound * (1 + 2e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), sizes=st.sampled_from(SIZES), activation=st.sampled_from(ACTIVATIONS))
def test_activations_keep_the_products_that_proofs_rest_on(seed, sizes, activation):
    """On real pairs of inputs: dy is the output form, and no factor pair (a xi)(b xi) is negative."""
    weights, generator = random_weights(seed, sizes), torch.Generator().manual_seed(seed)
    base, biases = random_base(seed, weights, 1.0), random_biases(weights, generator)
    ends = torch.randn(2, 50, sizes[0], generator=generator).double()
    free, hidden = [(ends[1] - ends[0]).numpy()], ends
    for weight, bias in zip(weights[:-1], biases, strict=True):
        hidden = activate(hidden @ torch.as_tensor(weight).T + bias, activation)
        change = (hidden[1] - hidden[0]).numpy()
        first, second = np.split(change, 2, axis=1)
        free.append((first - second) / 2 if activation == "groupsort" else change)  # |q|, half of max less min
    xi, forms = np.concatenate(free, axis=1), linear_forms(weights, base, activation)
    y = network(weights, base, activation, biases)(ends).numpy()
    np.testing.assert_allclose(xi @ forms.output.T, y[1] - y[0], atol=1e-10)
    assert ((xi @ forms.a.T) * (xi @ forms.b.T)).min() >= -1e-10


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), sizes=st.sampled_from(SIZES), activation=st.sampled_from(ACTIVATIONS))
def test_multipliers_of_closed_forms_prove_them(seed, sizes, activation):
    weights = random_weights(seed, sizes)
    base = random_base(seed, weights, 0.5)
    forms = linear_forms(weights, base, activation)
    for bound, layers in closed_forms(weights, base, activation).values():
        matrix = quadratic_form(forms, bound**2, np.concatenate(layers))
        assert np.linalg.eigvalsh(matrix)[0] >= -1e-9 * np.abs(matrix).max()


def test_liplt_by_hand_with_one_hidden_layer():
    first, last = random_weights(3, (4, 7, 2))
    expected = spectral_norm(last @ first) / 2 + spectral_norm(last) * spectral_norm(first) / 2
    assert liplt([first, last])[0] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_bounds_of_scalar_chains_are_exact(activation):
    weights, base = [np.array([[2.0]]), np.array([[-3.0]]), np.array([[0.5]])], np.zeros((1, 1))
    for bound, _ in closed_forms(weights, base, activation).values():
        assert bound == pytest.approx(3.0, rel=1e-12)
    assert tightest_proof(weights, base, activation, TIGHT).bound == pytest.approx(3.0, rel=1e-5)


def test_slope_restricted_closed_forms_are_never_used_for_groupsort():
    weights = random_weights(0)
    base = np.zeros((3, 5))
    assert closed_forms(weights, base, "groupsort").keys() == {PRODUCT}
    assert closed_forms(weights, base, "relu").keys() == {PRODUCT, "LipLT", "ECLipsE-Fast"}


def test_groupsort_of_orthogonal_layers_is_certified_at_its_exact_constant():
    orthogonal = [np.linalg.qr(np.random.default_rng(i).normal(size=(8, 8)))[0] for i in range(3)]
    assert tightest_proof(orthogonal, np.zeros((8, 8)), "groupsort").bound == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_search_that_is_cut_short_still_certifies_and_longer_is_tighter(activation):
    weights = random_weights(4, (5, 20, 16, 3))
    base = random_base(4, weights, 0.2)
    proofs = [tightest_proof(weights, base, activation, SearchConfig(max_steps=steps)) for steps in (0, 6, 12, 100)]
    bounds = [proof.bound for proof in proofs]
    assert bounds[-1] < 0.9 * bounds[0]
    assert bounds[-1] == min(bounds)
    assert "stopped after 6 steps" in proofs[1].note and proofs[-1].note == ""
    for proof in proofs:
        assert proof.bound <= proved_bound(weights, base, activation, None)
        assert proved_bound(weights, base, activation, proof.multipliers) == proof.bound
    hurried = tightest_proof(weights, base, activation, SearchConfig(max_seconds=0.0))
    assert hurried.bound == bounds[0]


def test_a_search_that_cannot_begin_falls_back_with_its_reason(monkeypatch):
    def fail(*arguments, **options):
        raise SearchFailed("no start is strictly feasible in float64")

    monkeypatch.setattr(certificate, "search", fail)
    weights, base = random_weights(5), np.zeros((3, 5))
    elementwise = tightest_proof(weights, base, "relu")
    assert elementwise.method in ("ECLipsE-Fast", "LipLT") and elementwise.note == "LipSDP: " + (
        "no start is strictly feasible in float64"
    )
    assert tightest_proof(weights, base, "groupsort").method == PRODUCT


def test_a_newton_system_that_breaks_leaves_a_valid_iterate(monkeypatch):
    def singular(self, point, factor):
        raise np.linalg.LinAlgError("not positive definite")

    monkeypatch.setattr(_Barrier, "newton_model", singular)
    proof = tightest_proof(random_weights(6), np.zeros((3, 5)), "tanh")
    assert proof.note == "LipSDP: Newton's system lost definiteness at step 0"
    assert proof.bound <= product(random_weights(6), "tanh")[0] * (1 + 1e-6)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("scale", [1e-38, 1e-12, 1e12])
def test_weights_of_any_size_have_a_bound_that_grows_with_them(activation, scale):
    weights, base = random_weights(12), np.zeros((3, 5))
    bound = tightest_proof([scale * weight for weight in weights], base, activation).bound
    product_alone = proved_bound(weights, base, activation, None) * scale**3
    assert 0 < bound <= product_alone * (1 + 1e-9)
    if scale > 1e-20:
        assert bound == pytest.approx(tightest_proof(weights, base, activation).bound * scale**3, rel=1e-3)


def test_a_constant_network_is_certified_too():
    weights = [np.zeros((4, 3)), np.zeros((4, 4)), np.ones((2, 4))]
    for activation in ACTIVATIONS:
        assert tightest_proof(weights, np.zeros((2, 3)), activation).bound == 0.0
        assert tightest_proof(weights, np.eye(2, 3), activation).bound == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("activation", ["relu", "groupsort"])
def test_gradient_and_hessian_of_the_barrier_agree_with_finite_differences(activation, shared):
    weights = random_weights(7, (3, 6, 4, 2))
    base = random_base(7, weights, 0.3)
    barrier = _Barrier(linear_forms(weights, base, activation), shared)
    bound, layers = feasible_starts(weights, base, activation)[0]
    point, t = barrier.point(2 * bound**2, 2 * np.concatenate(layers)), 0.7

    def value(at: np.ndarray) -> float:
        factor = barrier.factor(at)
        assert factor is not None
        return barrier.value(at, factor, t)

    factor = barrier.factor(point)
    assert factor is not None
    model, h = barrier.newton_model(point, factor), 1e-4
    unit = h * np.eye(len(point))
    gradient = np.array([(value(point + e) - value(point - e)) / (2 * h) for e in unit])
    hessian = np.array([[value(point + e + f) - value(point + e - f) - value(point - e + f) + value(point - e - f)
                         for f in unit] for e in unit]) / (4 * h * h)  # fmt: skip
    step = model.step(t)
    np.testing.assert_allclose(hessian @ step, -gradient, rtol=1e-3, atol=1e-3 * np.abs(gradient).max())
    assert model.decrement(t) ** 2 == pytest.approx(-gradient @ step, rel=1e-3)


@pytest.mark.parametrize("activation", ["relu", "groupsort"])
def test_the_rounding_set_aside_exceeds_that_of_forming_the_matrix(activation):
    weights = random_weights(8, (4, 24, 24, 24, 3))
    base = random_base(8, weights, 1.0)
    multipliers = np.concatenate(feasible_starts(weights, base, activation)[0][1])
    matrix = quadratic_form(linear_forms(weights, base, activation), 9.0, multipliers)
    longer = [weight.astype(np.longdouble) for weight in weights]
    exact = quadratic_form(linear_forms(longer, base.astype(np.longdouble), activation), 9.0, multipliers)
    absolute = linear_forms([abs(weight) for weight in weights], abs(base), activation, minus=1.0)
    aside = rounding(matrix, quadratic_form(absolute, 9.0, multipliers, minus=1.0))
    error = np.abs(np.asarray(exact - matrix, dtype=np.float64))
    assert error.max() > 0
    assert np.linalg.eigvalsh(aside - error)[0] > 0  # so the matrix less `aside` is below the exact one
    assert np.diag(aside).max() < 1e-7


@pytest.mark.parametrize("change", [
    lambda layers: [-layer for layer in layers],
    lambda layers: [0 * layer for layer in layers],
    lambda layers: [layer * np.nan for layer in layers],
    lambda layers: [*layers[:-1], layers[-1][1:]],
    lambda layers: [*layers[:-1], 1e-9 * layers[-1]],
])  # fmt: skip
def test_multipliers_that_prove_nothing_are_refused(change):
    weights, base = random_weights(9), np.zeros((3, 5))
    layers = tightest_proof(weights, base, "relu").multipliers
    assert layers is not None
    with pytest.raises(CertificateError, match="multipliers"):
        proved_bound(weights, base, "relu", change(layers))


def test_any_multipliers_prove_a_bound_of_the_weights_they_are_applied_to():
    mine, base = random_weights(10), np.zeros((3, 5))
    best = tightest_proof(mine, base, "relu")
    assert best.multipliers is not None
    draw = np.random.default_rng(0)
    for _ in range(20):
        other = [layer * draw.uniform(1, 3, size=layer.shape) for layer in best.multipliers]
        try:
            assert proved_bound(mine, base, "relu", other) > best.bound * (1 - 1e-3)
        except CertificateError:
            continue


@pytest.mark.parametrize("bad", [{"tolerance": 0.0}, {"tolerance": 2.0}, {"max_steps": -1}, {"max_seconds": -1.0}])
def test_bad_search_settings_are_refused(bad):
    with pytest.raises(FermoError, match="0 < tolerance < 1"):
        SearchConfig(**bad)


def test_the_search_finds_the_norm_of_a_linear_map():
    matrix = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    found = steepest_slope(lambda v: v @ matrix.T, torch.zeros(4, 8), generator=torch.Generator().manual_seed(1))
    assert found == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-5)
