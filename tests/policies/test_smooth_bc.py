"""Each method's term against its formula worked out another way; what a certificate can and cannot say of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fermo.errors import FermoError
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.checkpoint_header import read_header
from fermo.policies.network import mlp
from fermo.policies.smooth_bc.config import SmoothBcConfig, SmoothingMethod
from fermo.policies.smooth_bc.lipsnet import EPSILON, LipsNetwork, with_jacobian
from fermo.policies.verify import verify_checkpoint
from fermo.training.loops.bc import BcConfig, TrainingInterrupted, train_bc
from tests.policies.plants import demonstrations, fitted_policy
from tests.training.test_bc import same_weights, stop_at

METHODS = get_args(SmoothingMethod)
PENALISED = tuple(method for method in METHODS if method != "lipsnet")


def batch(samples: int = 512) -> dict[str, Tensor]:
    """Demonstrations in which each sample follows the one before it."""
    observations, actions = demonstrations(samples)
    following = observations[torch.arange(1, samples + 1).clamp_max(samples - 1)]
    return {"observation": observations, "action": actions[:, None], "next_observation": following}


def linear_policy(method: str, **settings_: Any) -> Any:
    """One whose map is linear on the data, because its hidden units are all on: pi(z) = J z + c."""
    policy = fitted_policy("smooth_bc", method=method, activation="relu", **settings_)
    with torch.no_grad():
        for layer in policy.network[0], policy.network[2]:
            layer.bias.fill_(1e3)
    return policy


def slope_of(policy: Any) -> Tensor:
    """J, shape ``(m, n)``, of a map that is linear."""
    return torch.autograd.functional.jacobian(lambda z: policy.normalized_map(z[None])[0], torch.zeros(17)).double()


def steps_of(policy: Any, samples: dict[str, Tensor]) -> Tensor:
    """``z_{t+1} - z_t``, shape ``(B, n)``."""
    return (samples["next_observation"] - samples["observation"]).double() / policy.observation_normalizer.std


def penalty_of(policy: Any, samples: dict[str, Tensor]) -> float:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        loss, metrics = policy(samples)
    assert loss.item() == pytest.approx(metrics["loss"].item() + policy.config.weight * metrics["penalty"].item())
    return metrics["penalty"].item()


def test_caps_is_the_mean_distance_to_the_next_step_and_to_neighbours() -> None:
    policy, samples = linear_policy("caps", sigma=0.1, spatial=3.0), batch(20_000)
    jacobian = slope_of(policy)
    temporal = torch.linalg.vector_norm(steps_of(policy, samples) @ jacobian.T, dim=1).mean()
    noise = 0.1 * torch.randn(200_000, 17, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    spatial = torch.linalg.vector_norm(noise @ jacobian.T, dim=1).mean()
    assert penalty_of(policy, samples) == pytest.approx(float(temporal + 3 * spatial), rel=0.02)


def test_l2c2_on_a_linear_map_is_a_third_of_the_squared_step() -> None:
    policy, samples = linear_policy("l2c2"), batch(20_000)
    squared = (steps_of(policy, samples) @ slope_of(policy).T).square().sum(dim=1).mean()
    assert penalty_of(policy, samples) == pytest.approx(float(squared) / 3, rel=0.05)  # a third is the mean of u^2


def test_lcp_on_a_linear_map_is_the_squared_frobenius_norm_of_its_slope() -> None:
    policy = linear_policy("lcp", action_base="joint_position")
    expected = float(slope_of(policy).square().sum())
    assert penalty_of(policy, batch(20_000)) == pytest.approx(expected, rel=0.05)


def test_lipsnet_pays_for_the_square_of_k_alone() -> None:
    policy = fitted_policy("smooth_bc", method="lipsnet", weight=0.5)
    with torch.no_grad():
        policy.network.k.log_value.fill_(math.log(3.0))
    assert penalty_of(policy, batch()) == pytest.approx(9.0, rel=1e-6)
    fixed = fitted_policy("smooth_bc", method="lipsnet", k=3.0)
    assert penalty_of(fixed, batch()) == 9.0 and "k" not in {name.split(".")[1] for name, _ in fixed.named_parameters()}


@pytest.mark.parametrize("method", METHODS)
def test_the_gradient_is_finite_where_an_episode_ends(method: str) -> None:
    policy, samples = fitted_policy("smooth_bc", method=method, weight=1.0), batch(16)
    samples["next_observation"] = samples["observation"]  # every sample is its episode's last
    policy(samples)[0].backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in policy.parameters())


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(["relu", "tanh", "groupsort"]), st.integers(1, 3), st.integers(0, 2**31))
def test_the_jacobian_carried_backwards_is_the_jacobian(activation: str, depth: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    perceptron = mlp((5, *(8,) * depth, 3), activation, generator).double()
    points = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    output, jacobian = with_jacobian(perceptron, points)
    expected = torch.func.vmap(torch.func.jacrev(perceptron))(points)
    torch.testing.assert_close(output, perceptron(points))
    torch.testing.assert_close(jacobian, expected)


def test_lipsnets_gradient_agrees_with_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    network = LipsNetwork(mlp((3, 4, 2), "tanh", generator), fitted_policy("smooth_bc").network.k).double()
    points = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, points)


def test_inside_a_linear_piece_lipsnets_slope_is_k() -> None:
    policy = fitted_policy("smooth_bc", method="lipsnet", activation="relu", k=1.31)
    points = policy.observation_normalizer(demonstrations(64)[0])
    slopes = torch.func.vmap(torch.func.jacrev(lambda z: policy.network(z[None])[0]))(points)
    norm = torch.linalg.vector_norm(with_jacobian(policy.network.perceptron, points)[1], dim=(1, 2))
    torch.testing.assert_close(torch.linalg.vector_norm(slopes, dim=(1, 2)), 1.31 * norm / (norm + EPSILON))


@pytest.mark.parametrize("activation", ["relu", "groupsort"])
def test_across_a_switch_lipsnet_jumps_far_past_k(activation: str) -> None:
    policy = fitted_policy("smooth_bc", method="lipsnet", activation=activation, k=1.31).double()
    ends = policy.observation_normalizer(demonstrations(512)[0].double()).chunk(2)
    jump, distance = steepest_jump(policy.network, *ends)
    assert distance < 1e-8 and jump > 0.01
    assert jump / distance > 1e5 * 1.31


def steepest_jump(network: LipsNetwork, first: Tensor, second: Tensor, halvings: int = 30) -> tuple[float, float]:
    """Bisects each segment towards the half over which the network moves more; what is left of the worst one."""
    for _ in range(halvings):
        middle = (first + second) / 2
        left, right = (network(middle) - network(first)).norm(dim=1), (network(second) - network(middle)).norm(dim=1)
        nearer = (left > right)[:, None]
        first, second = torch.where(nearer, first, middle), torch.where(nearer, middle, second)
    jumps = (network(second) - network(first)).norm(dim=1).detach()
    worst = int(jumps.argmax())
    return float(jumps[worst]), float((second - first)[worst].norm())


def test_lipsnet_is_not_certified_and_its_card_says_why(tmp_path: Path) -> None:
    for activation, why in (("relu", "jumps where a relu switches"), ("tanh", "K bounds the slope only where")):
        policy = fitted_policy("smooth_bc", method="lipsnet", activation=activation)
        folder = save_checkpoint(policy, tmp_path / activation)
        assert policy.certificate() is None and not (folder / "certificate.json").exists()
        assert why in read_header(folder)["uncertified"] and why in (folder / "README.md").read_text()


@pytest.mark.parametrize("method", PENALISED)
def test_what_the_penalties_leave_is_a_perceptron_and_certified_as_one(method: str, tmp_path: Path) -> None:
    policy, plain = fitted_policy("smooth_bc", method=method), fitted_policy("mlp_bc")
    certificate = policy.certificate()
    assert certificate is not None and not certificate["by_construction"]
    assert certificate["lipschitz"] == plain.certificate()["lipschitz"]  # the same initial weights
    assert verify_checkpoint(save_checkpoint(policy, tmp_path / "checkpoint"))["lipschitz"] == certificate["lipschitz"]


def trained(method: str, *, validation: float = 0.0, log_every: int = 5, **options: Any) -> Any:
    policy, samples = fitted_policy("smooth_bc", method=method, weight=0.1), batch()
    config = BcConfig(steps=24, batch_size=96, ema_decay=0.9, checkpoint_every=7, validation=validation,
                      log_every=log_every)  # fmt: skip
    train_bc(policy, samples["observation"], samples["action"], next_observations=samples["next_observation"],
             config=config, **options)  # fmt: skip
    return policy


@pytest.mark.parametrize("method", METHODS)
def test_resumed_training_draws_on_where_it_stopped(method: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    before, whole = torch.get_rng_state(), trained(method)
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(TrainingInterrupted):
        trained(method, folder=tmp_path, on_step=stop_at(10))
    assert same_weights(whole, trained(method, folder=tmp_path, resume=True))


@pytest.mark.parametrize("method", METHODS)
def test_the_checkpoint_of_a_trained_policy_gives_bitwise_its_actions(method: str, tmp_path: Path) -> None:
    policy, obs = trained(method), demonstrations(7)[0]
    loaded = load_checkpoint(save_checkpoint(policy, tmp_path / "checkpoint"))
    assert torch.equal(loaded.select_action(obs), policy.select_action(obs))


@pytest.mark.parametrize("method", METHODS)
def test_looking_at_held_out_samples_changes_nothing_of_the_training(method: str) -> None:
    often, seldom = (trained(method, validation=0.2, log_every=every) for every in (1, 24))
    assert same_weights(often, seldom)


@pytest.mark.parametrize("method", PENALISED)
def test_a_heavier_penalty_leaves_a_flatter_map(method: str) -> None:
    slopes = []
    for weight in (1e-3, 10.0):
        policy, samples = fitted_policy("smooth_bc", method=method, weight=weight, activation="tanh"), batch()
        train_bc(policy, samples["observation"], samples["action"], next_observations=samples["next_observation"],
                 config=BcConfig(steps=60, batch_size=256, lr=5e-3, warmup_steps=5))  # fmt: skip
        slopes.append(policy.certificate()["lipschitz"])
    assert slopes[1] < 0.7 * slopes[0]


@pytest.mark.parametrize("method", ["caps", "l2c2"])
def test_a_method_of_neighbouring_steps_says_that_it_needs_them(method: str) -> None:
    observations, actions = demonstrations()
    with pytest.raises(FermoError, match=f"{method} compares neighbouring steps"):
        train_bc(fitted_policy("smooth_bc", method=method), observations, actions, config=BcConfig(steps=1))


@pytest.mark.parametrize(("wrong", "message"), [
    ({"method": "cap"}, "choose from caps, l2c2, lcp, lipsnet"),
    ({"weight": 0.0}, "weight must be positive"),
    ({"sigma": -1.0}, "sigma must be positive"),
    ({"spatial": math.inf}, "spatial must be positive"),
    ({"k": 0.0}, "k must be positive"),
    ({"k": 1.0, "method": "lcp"}, "k is lipsnet's, lcp has none"),
])  # fmt: skip
def test_bad_settings_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(FermoError, match=message):
        SmoothBcConfig(**wrong)
