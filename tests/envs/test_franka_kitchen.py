"""FrankaKitchen: it steps as gymnasium-robotics does, pays for what is first done, and tells orders and results."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import mujoco
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.tasks import franka_kitchen_metrics as metrics
from fermo.envs.tasks.franka_kitchen import START_QPOS, FrankaKitchen, FrankaKitchenConfig
from fermo.errors import FermoError

EXACT: dict[str, Any] = {"robot_noise_ratio": 0.0, "object_noise_ratio": 0.0, "start_spread": 0.0}
EVERYTHING = range(len(metrics.SUBTASKS))


def make(worlds: int = 1, backend: str = "cpu", **config: Any) -> VectorEnv:
    options = {"device": "cpu"} if backend == "warp" else {"num_threads": 1}
    env = VectorEnv(FrankaKitchen(FrankaKitchenConfig(**config)), worlds, backend=backend, captured=False,
                    autoreset_mode=AutoresetMode.DISABLED, backend_options=options)  # fmt: skip
    env.reset(seed=0)
    return env


def actions(steps: int) -> np.ndarray:
    """Partly beyond what is allowed, as a policy's may be."""
    return np.random.default_rng(0).uniform(-1.3, 1.3, (steps, 9))


def put(env: VectorEnv, *done: int) -> None:
    """Some sub-tasks at their goals, everything else at the start."""
    qpos = torch.tensor([START_QPOS], dtype=torch.float64).repeat(env.num_envs, 1)
    for number in done:
        subtask = metrics.SUBTASKS[number]
        qpos[:, slice(*subtask.elements)] = torch.tensor(subtask.goal, dtype=torch.float64)
    everyone = torch.ones(env.num_envs, dtype=torch.bool)
    env.backend.reset(everyone, qpos.to(env.backend.dtype), torch.zeros_like(env.sim["qvel"]))
    env.backend.forward(everyone)


def test_a_step_is_what_the_package_says_it_is() -> None:
    """ctrl = clip(q + dt 2 clip(a, -1, 1), bounds), held for 40 physics steps; written out for one world."""
    env = make(**EXACT)
    model = env.task.model
    data = mujoco.MjData(model)
    data.qpos[:] = START_QPOS
    low, high = np.array([[-2.9, -1.8, -2.9, -3.1, -2.9, 0, -2.9, 0, 0], [2.9, 1.8, 2.9, 0, 2.9, 3.8, 2.9, 0.04, 0.04]])
    for action in actions(6):
        data.ctrl[:] = np.clip(data.qpos[:9] + 0.08 * 2.0 * np.clip(action, -1.0, 1.0), low, high)
        mujoco.mj_step(model, data, 40)
        obs, *_ = env.step(action[None])
        np.testing.assert_array_equal(env.sim["qpos"][0].numpy(), data.qpos)
        np.testing.assert_array_equal(obs[0].numpy(), data.qpos.astype(np.float32))


REFERENCE = """
import json, sys
import numpy as np
from fermo.envs.adapters import mujoco_compat
mujoco_compat.install()
import gymnasium, gymnasium_robotics
gymnasium.register_envs(gymnasium_robotics)
names = json.loads(sys.argv[1])
env = gymnasium.make("FrankaKitchen-v1", tasks_to_complete=names, robot_noise_ratio=0.0, object_noise_ratio=0.0,
                     disable_env_checker=True).unwrapped
seen = [env.reset(seed=0)[0]["observation"]]
for action in np.random.default_rng(0).uniform(-1.3, 1.3, (int(sys.argv[2]), 9)):
    seen.append(env.step(action)[0]["observation"])
goals = {name: list(map(float, goal)) for name, goal in env.goal.items()}
print(json.dumps({"seen": np.array(seen).tolist(), "goals": goals}))
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("gymnasium_robotics") is None, reason="gymnasium-robotics is an extra, not installed")
def test_an_episode_is_gymnasium_robotics_own() -> None:
    """In an interpreter of its own, for the package needs MuJoCo patched; its model takes ten seconds to load."""
    steps = 25
    done = subprocess.run([sys.executable, "-c", REFERENCE, json.dumps(metrics.NAMES), str(steps)],
                          capture_output=True, text=True, check=True)  # fmt: skip
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["goals"] == {subtask.name: list(subtask.goal) for subtask in metrics.SUBTASKS}
    seen = np.array(answer["seen"])[:, np.r_[0:9, 18:39]]
    env = make(**EXACT)
    ours = [env.sim["qpos"][0].numpy().copy()]
    for action in actions(steps):
        env.step(action[None])
        ours.append(env.sim["qpos"][0].numpy().copy())
    np.testing.assert_array_equal(np.array(ours), seen)


@pytest.mark.slow
def test_both_back_ends_take_the_same_step() -> None:
    """Warp's kernels for this model take minutes to compile the first time."""
    pytest.importorskip("mujoco_warp")
    envs = [make(2, backend, **EXACT | {"start_spread": 0.05}) for backend in ("cpu", "warp")]
    for action in actions(4):
        rows = [env.step(np.tile(action, (2, 1))) for env in envs]
        torch.testing.assert_close(rows[0][0], rows[1][0], atol=2e-5, rtol=0.0)
        assert torch.equal(rows[0][1], rows[1][1])


def test_each_sub_task_pays_once_and_four_solve_the_episode() -> None:
    env = make(**EXACT)
    story = [((), 0), ((0,), 1), ((0,), 0), ((), 0), ((0, 2), 1), ((4, 5), 2), ((1, 3, 6), 3)]
    for number, (done, paid) in enumerate(story):
        put(env, *done)
        _, reward, terminated, _, info = env.step(np.zeros((1, 9)))
        assert float(reward) == paid, done
        assert bool(info["success"]) == (number >= 5) and bool(terminated) == (number == 6)
    assert env.sim.sensors["finishes"].steps.tolist() == [[2, 7, 5, 7, 6, 6, 7]]


@pytest.mark.parametrize("number", EVERYTHING)
def test_a_sub_task_is_done_within_its_threshold_of_its_own_goal(number: int) -> None:
    subtask = metrics.SUBTASKS[number]
    start, end = torch.tensor(START_QPOS), torch.tensor(START_QPOS)
    end[slice(*subtask.elements)] = torch.tensor(subtask.goal)
    expected = torch.linalg.vector_norm((end - start)[slice(*subtask.elements)])
    assert float(metrics.distances(start)[number]) == pytest.approx(float(expected), abs=1e-6)
    assert float(metrics.distances(end)[number]) == pytest.approx(0.0, abs=1e-6)
    others = [other for other in EVERYTHING if other != number]
    assert (metrics.distances(end)[others] > 0.3).all()


def test_sensors_are_as_noisy_as_the_package_makes_them() -> None:
    """A tenth of the ratio on the robot's joints; 0.005 and so on of it on the objects'."""
    env = make(400, start_spread=0.0, object_noise_ratio=1.0)
    error = (env.sim.sensors["encoders"].position - env.sim["qpos"]).abs().amax(dim=0)
    amplitude = torch.tensor([1e-3] * 9 + [0.1, 5e-3, 5e-3] + [5e-4] * 6 + [5e-3] * 3 + [0.1] * 3 + [5e-3] * 3
                             + [0.1] * 3, dtype=torch.float64)  # fmt: skip
    assert (error <= amplitude).all() and (error > 0.97 * amplitude).all()


def test_episodes_start_near_the_packages_start() -> None:
    qpos, qvel = FrankaKitchen().initial_state(WorldRandom.first_episodes(0, 500))
    away = (qpos - torch.tensor(START_QPOS, dtype=torch.float64)).abs()
    assert 0.049 < away[:, :7].max() <= 0.05 and not away[:, 7:].any() and not qvel.any()


@st.composite
def finishes(draw: st.DrawFn) -> Tensor:
    row = st.permutations(list(range(1, 8))).flatmap(
        lambda steps: st.lists(st.booleans(), min_size=7, max_size=7).map(
            lambda kept: [step * keep for step, keep in zip(steps, kept, strict=True)]))  # fmt: skip
    return torch.tensor(draw(st.lists(row, min_size=1, max_size=4)))


@given(table=finishes())
def test_the_order_is_that_of_the_steps_and_its_one_hots_say_it(table: Tensor) -> None:
    orders = metrics.order(table)
    for found, row in zip(orders.tolist(), table.tolist(), strict=True):
        visits = [number for step, number in sorted((step, number) for number, step in enumerate(row) if step)][:4]
        assert found == visits + [-1] * (4 - len(visits))
    hot = metrics.one_hot(orders)
    assert hot.shape == (len(table), 4, 7)
    assert torch.equal(torch.where(hot.any(dim=2), hot.argmax(dim=2), -1), orders)


@given(table=finishes(), wanted=st.sets(st.integers(0, 6), min_size=4, max_size=4))
def test_the_result_counts_wanted_sub_tasks_in_any_order(table: Tensor, wanted: set[int]) -> None:
    mask = torch.tensor([[number in wanted for number in EVERYTHING]]).expand(len(table), 7)
    expected = [sum(1 for number in wanted if row[number]) for row in table.tolist()]
    assert metrics.result(table, mask).tolist() == expected


def test_what_remains_of_the_way_is_the_mean_share_of_what_is_wanted() -> None:
    first = torch.tensor([START_QPOS], dtype=torch.float64).repeat(3, 1)
    light, slide = metrics.SUBTASKS[metrics.LIGHT_SWITCH], metrics.SUBTASKS[metrics.SLIDE_CABINET]
    wanted = torch.zeros(3, len(metrics.SUBTASKS), dtype=torch.bool)
    wanted[:, [metrics.LIGHT_SWITCH, metrics.SLIDE_CABINET]] = True
    last = first.clone()
    last[1, slice(*light.elements)] = torch.tensor(light.goal, dtype=torch.float64)
    where = slice(*slide.elements)
    last[2, where] = 2 * first[2, where] - torch.tensor(slide.goal)  # as far again, the wrong way
    last[0, slice(*metrics.SUBTASKS[metrics.KETTLE].elements)] += 1.0  # which nobody asked for
    assert metrics.remaining(first, last, wanted).tolist() == pytest.approx([1.0, 0.5, 1.5])


def test_what_is_done_after_the_end_does_not_count() -> None:
    qpos = torch.tensor(START_QPOS).repeat(2, 4, 1)
    qpos[:, 1:, 22] = -0.75  # from the second step on
    qpos[:, 3, 19] = 0.37
    found = metrics.first_finishes(qpos, torch.tensor([3, 4]), 0.3)
    assert found[:, metrics.MICROWAVE].tolist() == [2, 2] and found[:, metrics.SLIDE_CABINET].tolist() == [0, 4]


@pytest.mark.parametrize("wrong", [{"threshold": 0.0}, {"episode_s": float("inf")}, {"start_spread": -0.1},
                                   {"enough": 8}, {"robot_noise_ratio": -1.0}])  # fmt: skip
def test_configs_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(FermoError, match=next(iter(wrong))):
        FrankaKitchenConfig(**wrong)
