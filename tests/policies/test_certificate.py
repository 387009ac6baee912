import dataclasses
import json
import math
import shutil
import subprocess
import sys
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.policies import behavior_cloning
from fermo.policies.certificate import (
    FeedforwardMap,
    eclipse_fast_bound,
    liplt_bound,
    network_bound,
    product_bound,
    spectral_norm,
    verify_certificate,
)
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.falsifier import steepest_slope
from fermo.training.loops.bc import BcConfig, train_bc
from tests.policies.plants import SPEC, demonstrations, fitted_policy

VARIANTS = [
    (family, activation, base)
    for family in ("mlp_bc", "lipschitz_bc")
    for activation in ("relu", "tanh", "groupsort")
    for base in (None, "joint_position")
]


def random_weights(seed: int, sizes: tuple[int, ...] = (5, 12, 10, 3)) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(o, i)) / math.sqrt(i) for i, o in pairwise(sizes)]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([(4, 9, 2), (5, 12, 10, 3), (3, 8, 8, 8, 1)]))
def test_every_bound_lies_between_the_slope_found_and_the_product(seed: int, sizes: tuple[int, ...]):
    weights = random_weights(seed, sizes)
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.as_tensor(weight) for weight in weights]

    def network(value: torch.Tensor) -> torch.Tensor:
        for weight in tensors[:-1]:
            value = torch.relu(value @ weight.T)
        return value @ tensors[-1].T

    points = torch.randn(32, sizes[0], generator=generator).double()
    found = steepest_slope(network, points, steps=20, generator=generator)
    for bound in (liplt_bound(weights), eclipse_fast_bound(weights)):
        assert found <= bound * (1 + 1e-9)
        assert bound <= product_bound(weights) * (1 + 1e-9)


def test_liplt_by_hand_with_one_hidden_layer():
    first, last = random_weights(3, (4, 7, 2))
    expected = spectral_norm(last @ first) / 2 + spectral_norm(last) * spectral_norm(first) / 2
    assert liplt_bound([first, last]) == pytest.approx(expected, rel=1e-12)


def test_bounds_of_scalar_chains_are_exact():
    weights = [np.array([[2.0]]), np.array([[-3.0]]), np.array([[0.5]])]
    for bound in (product_bound, liplt_bound, eclipse_fast_bound):
        assert bound(weights) == pytest.approx(3.0, rel=1e-12)


def test_slope_restricted_bounds_are_never_used_for_groupsort():
    weights = random_weights(0)
    assert network_bound(weights, "groupsort") == (product_bound(weights), "product of spectral norms")
    assert network_bound(weights, "relu")[0] < product_bound(weights)


def test_the_search_finds_the_norm_of_a_linear_map():
    matrix = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    found = steepest_slope(lambda v: v @ matrix.T, torch.zeros(4, 8), generator=torch.Generator().manual_seed(1))
    assert found == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)), rel=1e-5)


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


@pytest.mark.parametrize("bug", ["transposed", "unnormalised"])
def test_a_planted_bug_in_the_bound_is_refuted_by_the_search(monkeypatch, bug):
    def planted(cls, tensors, *args):
        right = FeedforwardMap.from_tensors(tensors, *args)
        if bug == "unnormalised":
            return dataclasses.replace(right, weights=tuple(w / max(1.0, spectral_norm(w)) for w in right.weights))
        wrong = list(right.weights)
        wrong[1] = wrong[1].T @ wrong[1] / spectral_norm(wrong[1]) ** 2  # unit norm, as if it had been orthogonal
        return dataclasses.replace(right, weights=tuple(wrong))

    policy = fitted_policy("mlp_bc", activation="groupsort")
    train_bc(policy, *demonstrations(), config=BcConfig(steps=100, batch_size=256, lr=1e-2, warmup_steps=5))
    with torch.no_grad():
        policy.network[2].weight.mul_(20.0)
    monkeypatch.setattr(behavior_cloning, "FeedforwardMap", type("Planted", (), {"from_tensors": classmethod(planted)}))
    with pytest.raises(FermoError, match="refuted by a slope"):
        policy.certificate()


def test_verifying_needs_no_torch(tmp_path):
    folder = save_checkpoint(fitted_policy("lipschitz_bc"), tmp_path / "checkpoint")
    script = (
        "import sys; from fermo.policies.certificate import verify_certificate; "
        f"verify_certificate({str(folder)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def tamper_number(folder):
    path = folder / "certificate.json"
    data = json.loads(path.read_text())
    data["lipschitz"] *= 0.9
    path.write_text(json.dumps(data))


def tamper_row(folder):
    path = folder / "certificate.json"
    data = json.loads(path.read_text())
    data["sensitivity"][0]["gain"] *= 0.5
    path.write_text(json.dumps(data))


def tamper_weights(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def remove_weights(folder):
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("tamper", [tamper_number, tamper_row, tamper_weights, remove_weights])
def test_tampering_is_refused(tmp_path, tamper):
    folder = save_checkpoint(fitted_policy("lipschitz_bc"), tmp_path / "checkpoint")
    verify_certificate(shutil.copytree(folder, tmp_path / "copy"))
    tamper(folder)
    with pytest.raises(FermoError) as caught:
        verify_certificate(folder)
    assert "\n" not in str(caught.value)
