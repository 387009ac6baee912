"""What a policy's certificate says is true of the deployed policy, and a wrong one is refuted by the search."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from fermo.errors import FermoError
from fermo.policies import behavior_cloning
from fermo.policies.certificates.bounds import spectral_norm
from fermo.policies.certificates.certificate import FeedforwardMap, certify, verify_certificate
from fermo.policies.certificates.deviation import deviations
from fermo.policies.certificates.falsifier import steepest_slope
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.training.loops.bc import BcConfig, train_bc
from tests.policies.plants import SPEC, demonstrations, fitted_policy

VARIANTS = [
    (family, activation, base)
    for family in ("mlp_bc", "lipschitz_bc")
    for activation in ("relu", "tanh", "groupsort")
    for base in (None, "joint_position")
]


@pytest.mark.parametrize(("family", "activation", "base"), VARIANTS)
def test_search_on_the_deployed_policy_never_exceeds_the_certificate(tmp_path, family, activation, base):
    policy = fitted_policy(family, activation=activation, action_base=base)
    train_bc(policy, *demonstrations(), config=BcConfig(steps=30, batch_size=128, lr=1e-2, warmup_steps=1))
    folder = save_checkpoint(policy, tmp_path / "checkpoint")
    certificate = verify_certificate(folder)
    deployed: Any = load_checkpoint(folder)
    generator = torch.Generator().manual_seed(1)
    found = steepest_slope(deployed.normalized_map, torch.randn(64, 17, generator=generator), generator=generator)
    assert found <= certificate["lipschitz"] * (1 + 1e-6)
    if family == "lipschitz_bc" and base is None:
        assert certificate["lipschitz"] <= deployed.config.gamma * (1 + 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("family", "activation", "base"), VARIANTS)
def test_a_million_random_pairs_and_ten_thousand_ascended_ones_stay_below_the_certificate(
    tmp_path, family, activation, base
):
    """In SI units, clamp included, in the float32 that a robot runs."""
    policy = fitted_policy(family, activation=activation, action_base=base)
    train_bc(policy, *demonstrations(), config=BcConfig(steps=200, batch_size=128, lr=1e-2, warmup_steps=1))
    folder = save_checkpoint(policy, tmp_path / "checkpoint")
    deployed: Any = load_checkpoint(folder)
    lipschitz = verify_certificate(folder)["lipschitz"]
    scale_in, scale_out = deployed.observation_normalizer.std, deployed.action_normalizer.std
    generator = torch.Generator().manual_seed(2)
    for _ in range(100):
        first = demonstrations(10_000, seed=int(torch.randint(2**31, (), generator=generator)))[0]
        reach = 10 ** (4 * torch.rand(len(first), 1, generator=generator) - 3)
        change = reach * scale_in * torch.randn(first.shape, generator=generator)
        run = torch.linalg.vector_norm(((first + change) - first) / scale_in, dim=1)
        actions = deployed.select_action(first + change), deployed.select_action(first)
        rise = torch.linalg.vector_norm((actions[0] - actions[1]) / scale_out, dim=1)
        rounding = 4e-6 * torch.linalg.vector_norm(torch.cat(actions, dim=1) / torch.cat((scale_out, scale_out)), dim=1)
        assert (rise <= lipschitz * (1 + 1e-6) * run + rounding).all()
    points = 2 * torch.randn(10_000, 17, generator=generator)
    found = steepest_slope(deployed.normalized_map, points, steps=40, generator=generator)
    assert found <= lipschitz * (1 + 1e-6) + 1e-4  # float32 over the least distance between a pair


@pytest.mark.parametrize("base", [None, "joint_position"])
def test_each_sensitivity_row_bounds_the_action_in_si_units(tmp_path, base):
    policy = fitted_policy("lipschitz_bc", action_base=base, input_weights={"cube_position": 0.3})
    rows = policy.certificate()["sensitivity"]
    slices, obs = SPEC.observation_slices(), demonstrations(500)[0]
    generator = torch.Generator().manual_seed(0)
    for row in rows:
        change = torch.zeros_like(obs)
        columns = slices[row["observation"]]
        spread = policy.observation_normalizer.std[columns]
        change[:, columns] = spread * torch.randn(obs[:, columns].shape, generator=generator)
        moved = torch.linalg.vector_norm(policy.select_action(obs + change) - policy.select_action(obs), dim=1)
        assert (moved <= row["gain"] * torch.linalg.vector_norm(change, dim=1) * (1 + 1e-4)).all()
    units = {row["observation"]: row["unit"] for row in rows}
    assert units["cube_position"] == "(rad)/(m)"


def test_input_weight_scales_the_bound_along_its_signal():
    gain = {}
    for weight in (1.0, 0.25):
        rows = fitted_policy("lipschitz_bc", input_weights={"cube_position": weight}).certificate()["sensitivity"]
        gain[weight] = next(row["gain"] for row in rows if row["observation"] == "cube_position")
    assert gain[0.25] == pytest.approx(0.25 * gain[1.0], rel=1e-3)


def test_trained_constrained_policy_comes_near_its_bound():
    policy = fitted_policy("lipschitz_bc", gamma=0.5)  # the teacher is steeper: the constraint binds
    train_bc(policy, *demonstrations(), config=BcConfig(steps=200, batch_size=256, lr=1e-2, warmup_steps=5))
    certificate = policy.certificate()
    assert certificate["steepest_slope_found"] > 0.95 * certificate["lipschitz"]


@pytest.mark.parametrize("bug", ["transposed", "unnormalised", "action base forgotten"])
def test_a_planted_bug_in_the_bound_is_refuted_by_the_search(monkeypatch, bug):
    def planted(cls, tensors, *args, **options):
        right = FeedforwardMap.from_tensors(tensors, *args, **options)
        if bug == "unnormalised":
            return dataclasses.replace(right, weights=tuple(w / max(1.0, spectral_norm(w)) for w in right.weights))
        if bug == "action base forgotten":
            return dataclasses.replace(right, base=np.zeros_like(right.base))
        wrong = list(right.weights)
        wrong[1] = wrong[1].T @ wrong[1] / spectral_norm(wrong[1]) ** 2  # unit norm, as if it had been orthogonal
        return dataclasses.replace(right, weights=tuple(wrong))

    policy = fitted_policy("mlp_bc", activation="groupsort", action_base="joint_position")
    train_bc(policy, *demonstrations(), config=BcConfig(steps=100, batch_size=256, lr=1e-2, warmup_steps=5))
    with torch.no_grad():
        policy.network[2].weight.mul_(0.01 if bug == "action base forgotten" else 20.0)
    monkeypatch.setattr(behavior_cloning, "FeedforwardMap", type("Planted", (), {"from_tensors": classmethod(planted)}))
    with pytest.raises(FermoError, match="refuted by a slope"):
        policy.certificate()


def test_a_transposed_cayley_factor_is_refuted_by_the_search(monkeypatch):
    def wrong(free: torch.Tensor) -> torch.Tensor:  # -2 Y N^T where -2 Y N is right: trains well all the same
        size = free.shape[1]
        square, rest, identity = free[:size], free[size:], torch.eye(size)
        inverse = torch.linalg.inv(identity + square - square.T + rest.T @ rest)
        return torch.cat((2 * inverse - identity, -2 * rest @ inverse.T))

    policy = fitted_policy("lipschitz_bc", gamma=1.0)
    first = policy.network[0]
    monkeypatch.setattr(first, "weight", lambda: wrong(first.free) * first.gain)
    train_bc(policy, *demonstrations(), config=BcConfig(steps=200, batch_size=256, lr=1e-2, warmup_steps=5))
    certificate = policy.certificate()
    assert certificate["steepest_slope_found"] > policy.config.gamma * 1.02, "the construction's promise is refuted"
    assert certificate["steepest_slope_found"] <= certificate["lipschitz"], "the certificate reads the real weights"


def deployed_map(policy: Any) -> FeedforwardMap:
    tensors = {name: tensor.numpy() for name, tensor in policy.fold().requires_grad_(False).state_dict().items()}
    return FeedforwardMap.from_tensors(tensors, SPEC, policy.config.activation, policy.config.action_base)


@pytest.mark.parametrize(("family", "activation", "base"), VARIANTS)
def test_the_certified_map_is_the_deployed_one(family, activation, base):
    policy = fitted_policy(family, activation=activation, action_base=base)
    normalized = torch.randn(50, 17, generator=torch.Generator().manual_seed(0))
    theirs = policy.normalized_map(normalized)
    ours = torch.as_tensor(deployed_map(policy)(normalized.double().numpy()))
    offset = (theirs - ours)[0]  # constants move no slope
    assert torch.allclose(theirs.double(), ours + offset, atol=1e-5)


@pytest.mark.parametrize("squash", ["clip", "tanh"])
def test_an_actors_squash_and_frozen_statistics_are_part_of_what_is_certified(tmp_path, squash):
    policy = fitted_policy("actor_mlp", squash=squash, observation_clip=3.0)
    folder = save_checkpoint(policy, tmp_path / "checkpoint")
    certificate = verify_certificate(folder)
    obs = demonstrations(400)[0]
    change = 0.3 * torch.randn(obs.shape, generator=torch.Generator().manual_seed(0))
    moved = (policy.select_action(obs + change) - policy.select_action(obs)) / policy.action_normalizer.std
    run = torch.linalg.vector_norm(change / policy.observation_normalizer.std, dim=1)
    assert (torch.linalg.vector_norm(moved, dim=1) <= certificate["lipschitz"] * run * (1 + 1e-5)).all()


@pytest.mark.parametrize("activation", ["tanh", "groupsort"])
def test_sensor_errors_in_a_box_move_the_action_less_than_the_scaled_bound_and_that_beats_one_constant(activation):
    policy = fitted_policy("mlp_bc", activation=activation, action_base="joint_position")
    train_bc(policy, *demonstrations(), config=BcConfig(steps=60, batch_size=256, lr=1e-2, warmup_steps=5))
    deployed = deployed_map(policy)
    error = {"joint_position": 0.05, "cube_position": 0.004}
    lipschitz = certify(deployed, gamma_requested=None)["lipschitz"]
    (found,) = deviations(deployed, error, lipschitz)
    assert (found.command, found.unit) == ("joint_target", "rad")
    assert found.bound < 0.8 * found.by_constant
    generator, obs = torch.Generator().manual_seed(0), demonstrations(2000)[0]
    change = torch.zeros_like(obs)
    for name, width in error.items():
        columns = SPEC.observation_slices()[name]
        corners = torch.randint(0, 2, obs[:, columns].shape, generator=generator) * 2 - 1
        change[:, columns] = width * corners
    moved = policy.unclamped_action(obs + change) - policy.unclamped_action(obs)
    assert 0.2 * found.bound < float(torch.linalg.vector_norm(moved, dim=1).max()) < found.bound


def test_sensor_errors_must_name_signals_and_be_positive():
    deployed = deployed_map(fitted_policy("mlp_bc", activation="relu"))
    with pytest.raises(FermoError, match="did you mean 'cube_position'"):
        deviations(deployed, {"cube_positon": 0.1}, 1.0)
    for width in (0.0, -1.0, float("nan")):
        with pytest.raises(FermoError, match="must be positive and finite"):
            deviations(deployed, {"cube_position": width}, 1.0)


@pytest.mark.parametrize(("change", "says"), [
    ({"activation": "swish"}, "activation 'swish' has no proof"),
    ({"observation_std": np.zeros(17)}, "standard deviation is not positive"),
    ({"action_std": np.ones(3)}, "shapes"),
    ({"weights": ()}, "shapes"),
    ({"base": np.zeros((6, 3))}, "shapes"),
])  # fmt: skip
def test_a_map_that_cannot_be_certified_is_refused_in_one_line(change, says):
    deployed = dataclasses.replace(deployed_map(fitted_policy("mlp_bc")), **change)
    if "weights" in change:
        deployed = dataclasses.replace(deployed, biases=())
    with pytest.raises(FermoError, match=says) as caught:
        certify(deployed, gamma_requested=None)
    assert "\n" not in str(caught.value)


def test_weights_that_are_not_finite_give_no_certificate():
    policy = fitted_policy("mlp_bc", activation="relu")
    for value, says in ((torch.inf, "NaN or infinite"), (torch.nan, "NaN or infinite"), (3e38, "too large")):
        with torch.no_grad():
            policy.network[2].weight[0, 0] = value
            policy.network[4].weight[0, 0] = 3e38
        with pytest.raises(FermoError, match=says):
            policy.certificate()


def test_a_certificate_names_its_conditions_honestly():
    conditions = " ".join(fitted_policy("lipschitz_bc").certificate()["conditions"])
    for words in ("every pair of observations", "exact arithmetic", "float32", "closed loop", "1-Lipschitz"):
        assert words in conditions
