"""A corner of PickCube that a small network learns in seconds, shared by the tests of data, training and benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from fermo.envs.tasks.so101_pick_cube import PickCube, PickCubeConfig
from fermo.policies.behavior_cloning import BehaviorCloningPolicy
from fermo.training.demos.dataset import record_dataset
from fermo.training.fit import fit
from fermo.training.recipes import loop_recipe, policy_recipe

TASK = "fermo/SO101-PickCube-v0"
NEAR = {"reach": (0.19, 0.21), "azimuth": 0.15}


@dataclass(frozen=True)
class NearData:
    """Demonstrations of the corner: where they are and what the recorder said of them."""

    folder: Path
    counts: dict[str, int]


@pytest.fixture(scope="session")
def near_task() -> PickCube:
    return PickCube(PickCubeConfig(**NEAR))


@pytest.fixture(scope="session")
def near_data(tmp_path_factory: pytest.TempPathFactory) -> NearData:
    folder = tmp_path_factory.mktemp("near") / "dataset"
    return NearData(folder, record_dataset(TASK, folder, episodes=12, recoveries=36, seed=0, **NEAR))


@pytest.fixture(scope="session")
def near_policy(near_data: NearData, tmp_path_factory: pytest.TempPathFactory) -> BehaviorCloningPolicy:
    """Lifts the cube about every second time."""
    policy = fit(
        near_data.folder, tmp_path_factory.mktemp("near-fit"), task=TASK, family="mlp_bc",
        policy=policy_recipe(TASK, "mlp_bc", hidden=(128, 128)),
        loop=loop_recipe(TASK, "mlp_bc", steps=1_000, lr=5e-3, batch_size=512, ema_decay=0.99, warmup_steps=50),
    )  # fmt: skip
    assert isinstance(policy, BehaviorCloningPolicy)
    return policy
