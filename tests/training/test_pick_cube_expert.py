"""The scripted expert: how often it succeeds, and that it is a function of what it sees and of nothing else."""

import pytest
import torch
from torch import Tensor

from fermo.envs.tasks.so101_pick_cube import PickCube
from fermo.training.demos.pick_cube_expert import PickCubeExpert
from fermo.training.demos.record import Episodes, record_episodes

WORLDS = 64


@pytest.fixture(scope="module")
def task() -> PickCube:
    return PickCube()


@pytest.fixture(scope="module")
def expert(task: PickCube) -> PickCubeExpert:
    return PickCubeExpert(task)


@pytest.fixture(scope="module")
def clean(task: PickCube, expert: PickCubeExpert) -> Episodes:
    return record_episodes(task, expert, episodes=WORLDS, seed=1)


@pytest.fixture(scope="module")
def seen(clean: Episodes) -> Tensor:
    """Observations from every phase of the task, mixed."""
    flat = clean.observations.flatten(0, 1)
    return flat[torch.randperm(len(flat), generator=torch.Generator().manual_seed(0))[:200]]


def test_the_clean_bar(clean: Episodes) -> None:
    assert clean.success.double().mean() >= 0.95


def test_an_answer_depends_on_the_observation_alone(task: PickCube, expert: PickCubeExpert, seen: Tensor) -> None:
    answers = expert(seen)
    order = torch.randperm(len(seen), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(expert(seen[order]), answers[order], atol=1e-10, rtol=0.0)
    for row in range(0, len(seen), 20):
        torch.testing.assert_close(expert(seen[row : row + 1])[0], answers[row], atol=1e-10, rtol=0.0)
    assert torch.equal(expert(seen), answers)
    assert torch.equal(PickCubeExpert(task)(seen), answers)


def test_answers_are_finite_near_and_never_touch_the_observation(expert: PickCubeExpert, seen: Tensor) -> None:
    before = seen.clone()
    answers = expert(seen)
    assert torch.equal(seen, before)
    assert answers.shape == (len(seen), 6)
    assert answers.isfinite().all()
    sag = expert.chain.gravity_torque(seen[:, :5].double()).abs().max() / expert.config.stiffness
    lead = (answers[:, :5] - seen[:, :5]).abs().max()
    assert lead <= expert.config.max_lead + sag + 1e-9
