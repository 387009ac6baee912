"""What each construction promises, held against random parameters, closed forms and a search."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fermo.policies.certificates.check_certificate import product_bound
from fermo.policies.lipschitz_bc import cayley as cayley_module
from fermo.policies.lipschitz_bc import sandwich as sandwich_module
from fermo.policies.lipschitz_bc.cayley import CayleyMlp, cayley_blocks
from fermo.policies.lipschitz_bc.config import LipschitzBcConfig
from fermo.policies.lipschitz_bc.gains import channel_gains
from fermo.policies.lipschitz_bc.network import ConstrainedMlp, FixedBound, LearnedBound
from fermo.policies.lipschitz_bc.penalised import PenalisedMlp, spectral_norm
from fermo.policies.lipschitz_bc.sandwich import SandwichMlp, factors
from fermo.signal import PlantSpec, Signal
from fermo.training.loops.bc import BcConfig, train_bc
from tests.policies.plants import SPEC, demonstrations, fitted_policy

SIZES = (4, 12, 8, 3)
PROMISING = [("cayley", "groupsort"), ("cayley", "tanh"), ("sandwich", "relu"), ("sandwich", "tanh")]
ALL = [*PROMISING, ("penalised", "relu")]


def network(construction: str, activation: Any, gamma: float = 2.0, seed: int = 0, sizes=SIZES) -> ConstrainedMlp:
    generator = torch.Generator().manual_seed(seed)
    if construction == "penalised":
        return PenalisedMlp(sizes, activation, generator)
    made = CayleyMlp if construction == "cayley" else SandwichMlp
    return made(sizes, activation, FixedBound(gamma), generator)


def shake(net: nn.Module, scale: float, generator: torch.Generator) -> None:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


def steepest_pair(net: nn.Module, gain_in: Tensor, gain_out: Tensor, generator: torch.Generator) -> float:
    first = 3 * torch.randn(500, len(gain_in), generator=generator).double()
    second = first + torch.randn(500, 1, generator=generator) * torch.randn(500, len(gain_in), generator=generator)
    rise = torch.linalg.vector_norm((net(first) - net(second)) / gain_out, dim=1)
    return float((rise / torch.linalg.vector_norm(gain_in * (first - second), dim=1)).max())


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(ALL), st.floats(0.01, 30.0), st.floats(0.05, 20.0), st.integers(0, 2**31))
def test_the_bound_holds_after_large_parameter_changes(kind: tuple[str, str], scale: float, gamma: float, seed: int):
    generator = torch.Generator().manual_seed(seed)
    net = network(*kind, gamma=gamma, seed=seed)
    # What exp(log_psi) spans is what floats can hold, not what the promise covers.
    shake(net, min(scale, 3.0) if kind[0] == "sandwich" else scale, generator)
    net.input_gain.copy_(torch.rand(4, generator=generator) + 0.1)
    net.output_gain.copy_(torch.rand(3, generator=generator) + 0.1)
    net = net.double()
    bound = float(net.lipschitz().detach())
    assert kind[0] == "penalised" or bound == pytest.approx(gamma, rel=1e-6)
    with torch.no_grad():
        assert steepest_pair(net, net.input_gain, net.output_gain, generator) <= bound * (1 + 1e-6)


@pytest.mark.parametrize(("construction", "activation"), PROMISING)
def test_a_learned_bound_holds_wherever_learning_takes_it(construction: str, activation: str):
    generator = torch.Generator().manual_seed(3)
    net = network(construction, activation)
    net.gamma = LearnedBound()
    assert float(net.lipschitz().detach()) == 1.0
    shake(net, 2.0, generator)
    with torch.no_grad():
        assert steepest_pair(net.double(), torch.ones(4), torch.ones(3), generator) <= net.lipschitz() * (1 + 1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.floats(0.01, 50.0), st.integers(0, 2**31))
def test_sandwich_factors_share_one_unit_of_energy(rows: int, columns: int, scale: float, seed: int):
    free = scale * torch.randn(rows + columns, rows, generator=torch.Generator().manual_seed(seed)).double()
    a_transposed, b = factors(free)
    assert a_transposed.shape == (rows, rows) and b.shape == (rows, columns)
    assert torch.allclose(a_transposed.T @ a_transposed + b @ b.T, torch.eye(rows).double(), atol=1e-8)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.1, 20.0), st.floats(0.05, 2.0), st.integers(0, 2**31))
def test_squared_psi_are_multipliers_with_which_lipsdp_proves_gamma(gamma: float, scale: float, seed: int):
    """The LMI of Fazlyab et al. 2019 at r = gamma^2, for the folded weights and with no solver."""
    net = network("sandwich", "relu", gamma=gamma, seed=seed).double()
    assert isinstance(net, SandwichMlp)
    shake(net, scale, torch.Generator().manual_seed(seed))
    gamma = float(net.gamma())  # as float32 has it
    first, second, last = (weight.detach().numpy() for weight, _ in net.effective())
    one, two = (gamma * np.diag(np.exp(2 * psi.detach().numpy())) for psi in net.log_psi)
    zeros = np.zeros((8, 4))
    lmi = np.block([
        [gamma**2 * np.eye(4), -first.T @ one, zeros.T],
        [-one @ first, 2 * one, -second.T @ two],
        [zeros, -two @ second, 2 * two - last.T @ last],
    ])  # fmt: skip
    scaled = lmi / np.sqrt(np.outer(np.diag(lmi), np.diag(lmi)))
    assert np.linalg.eigvalsh(scaled)[0] >= -1e-9


@pytest.mark.parametrize(("construction", "activation"), ALL)
def test_folding_keeps_every_bit(construction: str, activation: str):
    net = network(construction, activation, sizes=(17, 64, 32, 6))
    shake(net, 0.3, torch.Generator().manual_seed(1))
    net.input_gain.copy_(torch.rand(17))
    net.output_gain.copy_(torch.rand(6))
    folded = net.folded()
    assert [type(layer) for layer in list(folded)[::2]] == [nn.Linear] * 3
    for worlds in (1, 7, 256):
        obs = torch.randn(worlds, 17, generator=torch.Generator().manual_seed(worlds))
        assert torch.equal(folded(obs), net(obs))


@pytest.mark.parametrize("construction", ["cayley", "sandwich", "penalised"])
def test_gradients_agree_with_finite_differences(construction: str):
    net = network(construction, "tanh", sizes=(3, 5, 4, 2))
    if construction != "penalised":
        net.gamma = LearnedBound()
    net = net.double()
    names = [name for name, _ in net.named_parameters()]
    obs = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)).double()

    def loss(*values: Tensor) -> Tensor:
        class Both(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.net = net

            def forward(self) -> Tensor:
                return self.net(obs).square().sum() + self.net.lipschitz()

        given_ = {f"net.{name}": value for name, value in zip(names, values, strict=True)}
        return torch.func.functional_call(Both(), given_, ())

    point = tuple(p.detach().clone().requires_grad_(True) for p in net.parameters())
    assert torch.autograd.gradcheck(loss, point)


@pytest.mark.parametrize("shape", [(3, 9), (9, 3), (6, 6), (1, 5)])
def test_the_penalty_is_the_exact_product_of_norms(shape: tuple[int, int]):
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(0)).double().requires_grad_(True)
    exact = torch.linalg.matrix_norm(weight, 2)
    assert float(spectral_norm(weight).detach()) == pytest.approx(float(exact.detach()), rel=1e-12)
    (ours,) = torch.autograd.grad(spectral_norm(weight), weight)
    (theirs,) = torch.autograd.grad(exact, weight)
    assert torch.allclose(ours, theirs, atol=1e-10)
    net = network("penalised", "relu")
    numbers = [weight.detach().double().numpy() for weight in net.matrices()]
    assert float(net.lipschitz().detach()) == pytest.approx(product_bound(numbers, np.zeros((3, 4))), rel=1e-5)


def trained(steps: int = 300, **options: object):
    policy = fitted_policy("lipschitz_bc", **options)
    result = train_bc(policy, *demonstrations(), config=BcConfig(steps=steps, batch_size=256, lr=1e-2, warmup_steps=5))
    return policy, result


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_a_trained_sandwich_comes_within_a_twentieth_of_its_bound(activation: str):
    policy, _ = trained(construction="sandwich", activation=activation, gamma=0.5)  # the teacher is steeper
    certificate = policy.certificate()
    assert certificate["lipschitz"] <= 0.5 * (1 + 1e-4), "LipSDP proves what the construction promises"
    assert certificate["steepest_slope_found"] >= 0.95 * certificate["lipschitz"]


def test_a_sandwich_fits_better_than_orthogonal_layers_at_the_same_bound():
    losses = {name: trained(construction=name, activation="relu", gamma=1.0)[1].metrics["loss"]
              for name in ("cayley", "sandwich")}  # fmt: skip
    assert losses["sandwich"] < losses["cayley"]


@pytest.mark.parametrize("construction", ["cayley", "sandwich", "penalised"])
def test_a_heavier_weight_leaves_a_smaller_bound_and_a_larger_error(construction: str):
    light, heavy = (
        trained(construction=construction, activation="relu", gamma=None, gamma_weight=weight)[1].metrics
        for weight in (1e-3, 0.3)
    )
    assert heavy["lipschitz"] < 0.7 * light["lipschitz"]
    assert heavy["loss"] > light["loss"]


def test_a_penalised_product_is_a_tight_certificate():
    """The product bound of a penalised perceptron is much nearer to its slope than that of a free one."""
    free = fitted_policy("mlp_bc", activation="relu")
    train_bc(free, *demonstrations(), config=BcConfig(steps=300, batch_size=256, lr=1e-2, warmup_steps=5))
    kept, _ = trained(construction="penalised", activation="relu", gamma=None, gamma_weight=0.01)
    ratios = []
    for policy in (free, kept):
        weights = [w.numpy().astype(float) for n, w in copy.deepcopy(policy).fold().state_dict().items()
                   if n.startswith("network") and n.endswith("weight")]  # fmt: skip
        ratios.append(product_bound(weights, np.zeros((6, 17))) / policy.certificate()["steepest_slope_found"])
    assert ratios[1] < 1.2 < ratios[0]
    certificate = kept.certificate()
    assert certificate["gamma_requested"] is None and not certificate["by_construction"]


def si_slope(policy, observation: str) -> float:
    """Largest slope of the unclamped action along one observation signal, SI units, by the Jacobian at many points."""
    columns = SPEC.observation_slices()[observation]
    generator = torch.Generator().manual_seed(0)
    obs = policy.observation_normalizer.inverse(1.5 * torch.randn(300, 17, generator=generator))
    jacobian = torch.func.vmap(torch.func.jacrev(lambda o: policy.unclamped_action(o[None])[0]))(obs)
    return float(torch.linalg.matrix_norm(jacobian[:, :, columns].detach().double(), 2).max())


@pytest.mark.parametrize("construction", ["cayley", "sandwich"])
@pytest.mark.parametrize("base", [None, "joint_position"])
def test_slope_bounds_in_si_units_are_kept(construction: str, base: str | None):
    bounds = {"joint_target/cube_position": 2.0, "joint_target/joint_position": 1.3}  # rad per m, rad per rad
    policy, _ = trained(construction=construction, activation="relu", gamma=6.0, action_base=base, slope_bounds=bounds)
    proved = {row["observation"]: row["gain"] for row in policy.certificate()["sensitivity"]}
    for name, bound in bounds.items():
        observation = name.split("/")[1]
        assert si_slope(policy, observation) <= bound * (1 + 1e-4)
        assert proved[observation] <= bound * 1.01  # to the tolerance of LipSDP's search


@pytest.mark.parametrize("construction", ["cayley", "sandwich"])
def test_a_slope_bound_is_used_up_by_a_teacher_that_is_steeper(construction: str):
    observations, actions = demonstrations()
    actions = 12.0 * observations[:, 12:15].repeat(1, 2)  # rad per m, and it looks at nothing else
    policy = fitted_policy("lipschitz_bc", construction=construction, activation="relu", gamma=0.3,
                           slope_bounds={"joint_target/cube_position": 6.0})  # fmt: skip
    train_bc(policy, observations, actions, config=BcConfig(steps=300, batch_size=256, lr=1e-2, warmup_steps=5))
    assert 0.9 * 6.0 <= si_slope(policy, "cube_position") <= 6.0 * (1 + 1e-4)


def test_output_weights_bound_their_command():
    policy, _ = trained(gamma=4.0, output_weights={"joint_target": 0.1})
    assert 0.9 * 0.4 <= policy.certificate()["steepest_slope_found"] <= 0.4 * (1 + 1e-4)


def test_the_smallest_bound_of_several_commands_counts():
    tilt, position = Signal.uniform(name="tilt", shape=(2,), unit="rad"), Signal.uniform(name="x", shape=(), unit="m")
    force, torque = (Signal.uniform(name=n, shape=(), unit=u) for n, u in (("force", "N"), ("torque", "N m")))
    spec = PlantSpec(observations=(tilt, position), commands=(force, torque), rate_hz=50.0)
    config = LipschitzBcConfig(gamma=5.0, slope_bounds={"force/tilt": 10.0, "torque/tilt": 1.0},
                               output_weights={"torque": 0.5}, input_weights={"x": 0.2})  # fmt: skip
    std_in, std_out = torch.tensor([0.1, 0.2, 3.0]), torch.tensor([4.0, 2.0])
    inputs, outputs = channel_gains(config, spec, std_in, std_out)
    assert torch.allclose(outputs, torch.tensor([1.0, 0.5]))
    slopes = 5.0 * (std_out * outputs)[:, None] * (inputs / std_in)  # of each command along each channel, SI
    assert slopes[0, :2].max() <= 10.0 * (1 + 1e-6)
    assert slopes[1, :2] == pytest.approx(1.0, rel=1e-6)
    assert inputs[2] == pytest.approx(0.2)


def transposed(tall: Tensor) -> tuple[Tensor, Tensor]:
    """``-2 Y N^T`` where ``-2 Y N`` is right: trains well all the same."""
    top, _ = cayley_blocks(tall)
    return top, -(tall[len(top) :] @ (top + torch.eye(len(top))).T)


def outer_transposed(free: Tensor) -> tuple[Tensor, Tensor]:
    """A where its transpose is right."""
    a_transposed, b = factors(free)
    return a_transposed.T, b


@pytest.mark.parametrize(
    ("construction", "module", "name", "wrong"),
    [
        ("cayley", cayley_module, "cayley_blocks", transposed),
        ("sandwich", sandwich_module, "cayley_blocks", transposed),
        ("sandwich", sandwich_module, "factors", outer_transposed),
    ],
)
def test_a_transposed_factor_trains_well_and_is_refuted_by_the_search(monkeypatch, construction, module, name, wrong):
    monkeypatch.setattr(module, name, wrong)
    policy, result = trained(construction=construction, activation="relu", gamma=1.0)
    assert result.metrics["loss"] < 0.5
    certificate = policy.certificate()
    assert certificate["steepest_slope_found"] > 1.02, "the construction's promise is refuted"
    assert certificate["steepest_slope_found"] <= certificate["lipschitz"], "the certificate reads the real weights"


def test_initial_weights_keep_the_signal_alive():
    for construction, activation in ALL:
        net = network(construction, activation, gamma=1.0, sizes=(16, 64, 64, 64, 16))
        out = net(torch.randn(500, 16, generator=torch.Generator().manual_seed(1)))
        assert float(out.detach().std(0).mean()) > 0.05
