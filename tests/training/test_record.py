"""The recorder: labels are the expert's own answers, flags tell how it ended, worlds know nothing of one another."""

import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.tasks.so101_pick_cube import PickCube, PickCubeConfig
from fermo.training.demos.pick_cube_expert import PickCubeExpert
from fermo.training.demos.record import Disturbance, Episodes, Expert, record_episodes

WORLDS, SEED = 6, 3
SHAKEN = Disturbance(std=(0.05,) * 6, on_fraction=0.8, period=0.2)


@pytest.fixture(scope="module")
def task() -> PickCube:
    return PickCube()


@pytest.fixture(scope="module")
def half_hearted(task: PickCube) -> Expert:
    """The expert where the cube lies to the left, idle where it lies to the right; cubes never change sides."""
    expert = PickCubeExpert(task)

    def act(obs: Tensor) -> Tensor:
        left = obs[:, task.spec.observation_slices()["cube_position"]][:, 1:2] > 0.0
        return torch.where(left, expert(obs), obs[:, :6].double())

    return act


@pytest.fixture(scope="module")
def clean(task: PickCube, half_hearted: Expert) -> Episodes:
    return record_episodes(task, half_hearted, episodes=WORLDS, seed=SEED, num_threads=1)


def short_task() -> PickCube:
    return PickCube(PickCubeConfig(episode_s=1.6))


def waving(obs: Tensor) -> Tensor:
    """Row by row the same arithmetic whatever the size of the batch."""
    return obs[:, :6].double() + 0.1 * torch.sin(3.0 * obs[:, 5:].double().sum(dim=1, keepdim=True))


def test_shapes_and_first_observations(task: PickCube, clean: Episodes) -> None:
    assert clean.observations.shape == (WORLDS, task.max_steps, task.spec.observation_size)
    assert clean.actions.shape == (WORLDS, task.max_steps, task.spec.command_size)
    assert clean.success.shape == (WORLDS,)
    assert clean.success.dtype == torch.bool
    first, _ = VectorEnv(task, WORLDS, seed=SEED).reset()
    assert torch.equal(clean.observations[:, 0], first)


def test_success_is_the_height_of_the_cube_at_the_end(task: PickCube, half_hearted: Expert, clean: Episodes) -> None:
    env = VectorEnv(
        task, WORLDS, seed=SEED, autoreset_mode=AutoresetMode.DISABLED, backend_options={"num_threads": 1}
    )
    obs, _ = env.reset()
    start = env.sim["qpos"][:, task.cube_qpos.start + 2].clone()
    for step in range(task.max_steps):
        assert torch.equal(clean.observations[:, step], obs)
        obs, *_ = env.step(half_hearted(obs))
    lifted = env.sim["qpos"][:, task.cube_qpos.start + 2] - start > 0.05
    assert torch.equal(clean.success, lifted)
    assert clean.success.any()
    assert not clean.success.all()


@pytest.mark.parametrize("disturbance", [None, SHAKEN], ids=["clean", "disturbed"])
def test_labels_are_the_experts_own_answers(disturbance: Disturbance | None) -> None:
    task = short_task()
    expert = PickCubeExpert(task)
    episodes = record_episodes(task, expert, episodes=WORLDS, seed=SEED, disturbance=disturbance, num_threads=1)
    for step in range(task.max_steps):
        answer = expert(episodes.observations[:, step]).float()
        assert torch.equal(episodes.actions[:, step], answer)


def test_the_disturbance_leads_the_arm_astray() -> None:
    task = short_task()
    calm, shaken = (
        record_episodes(task, waving, episodes=WORLDS, seed=SEED, disturbance=disturbance, num_threads=1)
        for disturbance in (None, SHAKEN)
    )
    assert torch.equal(calm.observations[:, 0], shaken.observations[:, 0])
    apart = (calm.observations - shaken.observations)[:, :, :6].abs().amax(dim=(1, 2))
    assert (apart > 0.01).all()
    still = record_episodes(
        task, waving, episodes=WORLDS, seed=SEED, disturbance=Disturbance(std=(0.0,) * 6), num_threads=1
    )
    assert torch.equal(still.observations, calm.observations)


@pytest.mark.parametrize("disturbance", [None, SHAKEN], ids=["clean", "disturbed"])
def test_an_episode_does_not_depend_on_how_many_there_are(disturbance: Disturbance | None) -> None:
    task = short_task()
    few, many = (
        record_episodes(task, waving, episodes=count, seed=SEED, disturbance=disturbance, num_threads=1)
        for count in (2, WORLDS)
    )
    assert torch.equal(few.observations, many.observations[:2])
    assert torch.equal(few.actions, many.actions[:2])
    other = record_episodes(task, waving, episodes=2, seed=SEED + 1, disturbance=disturbance, num_threads=1)
    assert not torch.equal(other.observations, few.observations)


@pytest.mark.parametrize(
    "wrong", [{"std": (-0.1,)}, {"time_constant": 0.0}, {"period": -1.0}, {"on_fraction": 1.5}]
)
def test_disturbances_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ValueError, match="a disturbance needs"):
        Disturbance(**{"std": (0.1,), **wrong})
