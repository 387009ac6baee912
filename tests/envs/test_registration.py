"""Every task through Gymnasium's front door: single, batched, checked, seeded, rendered."""

import subprocess
import sys
from importlib.util import find_spec

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import TASKS, make_task, register_with_gymnasium, task_id
from fermo.errors import FermoError

MADE = [name for name in TASKS if "Robosuite" not in name or find_spec("robosuite")]
HOPPER = "fermo.envs:fermo/Hopper-v5"


@pytest.mark.parametrize("name", MADE)
# Advice about bounds, not a fault: positions have none, and commands are in the actuators' own units.
@pytest.mark.filterwarnings("ignore:.*(A Box observation space|For Box action spaces).*:UserWarning")
def test_a_single_environment_keeps_gymnasiums_contract(name):
    env = gymnasium.make(f"fermo.envs:{name}", render_mode="rgb_array", width=32, height=24)
    check_env(env.unwrapped)
    assert env.spec is not None and env.spec.max_episode_steps is None
    assert not isinstance(env, gymnasium.wrappers.TimeLimit)
    env.reset(seed=0)
    picture = np.asarray(env.render())
    assert picture.shape == (24, 32, 3)
    assert picture.dtype == np.uint8
    assert picture.std() > 0
    env.close()


@pytest.mark.parametrize("name", MADE)
def test_a_batch_has_the_single_environments_spaces(name):
    env = gymnasium.make_vec(f"fermo.envs:{name}", num_envs=2, vectorization_mode="vector_entry_point")
    single = gymnasium.make(name)
    assert isinstance(env, VectorEnv)
    assert env.single_observation_space == single.observation_space
    assert env.single_action_space == single.action_space
    obs, _ = env.reset(seed=0)
    assert obs.shape == env.observation_space.shape
    low, high = (torch.from_numpy(side).float() for side in (env.action_space.low, env.action_space.high))
    obs, reward, terminated, truncated, _ = env.step((low + high) / 2)
    assert env.observation_space.contains(obs.numpy())
    assert reward.shape == terminated.shape == truncated.shape == (2,)


def test_a_single_environment_is_world_zero_of_a_batch():
    single, batch = gymnasium.make(HOPPER), VectorEnv(make_task("Hopper"), 3, autoreset_mode=AutoresetMode.DISABLED)
    obs, _ = single.reset(seed=9)
    start, _ = batch.reset(seed=9)
    np.testing.assert_array_equal(obs, start[0].numpy())
    single.action_space.seed(0)
    for _ in range(20):
        action = single.action_space.sample()
        obs, reward, terminated, truncated, info = single.step(action)
        rows = batch.step(np.tile(action, (3, 1)))
        np.testing.assert_array_equal(obs, rows[0][0].numpy())
        assert (reward, terminated, truncated) == tuple(row[0].item() for row in rows[1:4])
        assert info["reward_terms"]["ctrl"] == rows[4]["reward_terms"]["ctrl"][0].item()


def test_seeds_repeat_and_unseeded_starts_differ():
    first, second = gymnasium.make(HOPPER), gymnasium.make(HOPPER)
    starts = [env.reset()[0] for env in (first, second)]
    assert not np.array_equal(*starts)
    series = [[env.reset(seed=4)[0], env.reset()[0], env.reset()[0]] for env in (first, second)]
    np.testing.assert_array_equal(series[0], series[1])
    assert not np.array_equal(series[0][0], series[0][1])


def test_episodes_end_by_the_tasks_own_clock():
    env = gymnasium.make(HOPPER, episode_steps=4, terminate_when_unhealthy=False)
    env.reset(seed=0)
    flags = [env.step(np.zeros(3, np.float32))[2:4] for _ in range(4)]
    assert flags == [(False, False)] * 3 + [(False, True)]


def test_config_and_options_pass_through_make_vec():
    env = gymnasium.make_vec(
        HOPPER, num_envs=2, vectorization_mode="vector_entry_point", ctrl_cost_weight=0.5, seed=6,
        autoreset_mode=AutoresetMode.SAME_STEP,
    )  # fmt: skip
    assert (env.task.config.ctrl_cost_weight, env.seed) == (0.5, 6)
    assert env.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP


@pytest.mark.parametrize("name", ("fermo/Hopper-v5", "Hopper-v5", "hopper", "fermo/hopper"))
def test_names_may_be_short(name):
    assert task_id(name) == "fermo/Hopper-v5"


def test_what_the_caller_gets_wrong_is_named():
    with pytest.raises(FermoError, match="did you mean 'Hopper-v5'"):
        make_task("Hoper-v5")
    with pytest.raises(FermoError, match="did you mean 'ctrl_cost_weight'"):
        gymnasium.make(HOPPER, ctrl_cost=1.0)
    with pytest.raises(FermoError, match="did you mean 'episode_s'"):
        make_task("SO101-PickCube", episode=2.0)
    with pytest.raises(FermoError, match=r"fermo/SO101-PickCube-v0 cannot be made so: reach"):
        make_task("fermo/SO101-PickCube-v0", reach=(0.3, 0.1))


def test_registering_twice_changes_nothing():
    before = dict(gymnasium.registry)
    register_with_gymnasium()
    assert dict(gymnasium.registry) == before


def test_importing_the_room_registers_without_loading_the_engine():
    code = (
        "import sys, fermo.envs, gymnasium; assert 'fermo/Hopper-v5' in gymnasium.registry; "
        "print([m for m in ('torch', 'mujoco') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
