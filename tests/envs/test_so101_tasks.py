"""The SO-101 tasks: the arm's own safety limiter stands between a policy and the simulated servos."""

import pytest
import torch
from gymnasium.vector import AutoresetMode

from fermo.assets.scenes.so101 import TOOL_SITE
from fermo.assets.so101_plant import JOINT_HIGH, JOINT_LOW, JOINT_SPEED, RATE_HZ
from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.controllers.kinematics import SerialChain
from fermo.envs.core.task import Task
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.envs.tasks.so101_pick_cube import PickCube
from fermo.envs.tasks.so101_reach import Reach
from fermo.envs.tasks.so101_servos import LIMITS
from fermo.hardware.drivers.so101 import So101Config

STEP = JOINT_SPEED / RATE_HZ


def make(task: Task, worlds: int = 3) -> VectorEnv:
    return VectorEnv(task, worlds, autoreset_mode=AutoresetMode.DISABLED, backend_options={"num_threads": 1})


@pytest.fixture(scope="module", params=[PickCube, Reach])
def task(request: pytest.FixtureRequest) -> Task:
    return request.param()


def test_goals_keep_to_the_ranges_and_the_speed_of_the_servos(task: Task) -> None:
    env = make(task)
    env.reset()
    wild = 100.0 * torch.randn(8, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    previous = env.sim["qpos"][:, :6].clone()
    for action in wild:
        env.step(action)
        ctrl = env.sim["ctrl"].clone()
        assert ((ctrl - previous).abs() <= STEP + 1e-9).all()
        assert (ctrl >= torch.tensor(JOINT_LOW) - 1e-6).all() and (ctrl <= torch.tensor(JOINT_HIGH) + 1e-6).all()
        previous = ctrl


def test_an_allowed_goal_passes_unchanged(task: Task) -> None:
    env = make(task)
    env.reset()
    goal = env.sim["qpos"][:, :6] + 0.9 * STEP * torch.tensor([1.0, 1.0, -1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    env.step(goal)
    assert torch.equal(env.sim["ctrl"], goal)


def test_the_limiter_begins_anew_with_its_own_world_only(task: Task) -> None:
    env = make(task)
    env.reset()
    far = torch.tensor(JOINT_LOW, dtype=torch.float64).expand(3, 6)
    for _ in range(4):
        env.step(far)
    before = env.sim["ctrl"].clone()
    env.reset(options={"reset_mask": torch.tensor([False, True, False])})
    start = env.sim["qpos"][:, :6].clone()
    env.step(far)
    expected = torch.maximum(torch.where(torch.tensor([[False], [True], [False]]), start, before) - STEP, far)
    torch.testing.assert_close(env.sim["ctrl"], expected, atol=1e-9, rtol=0.0)


def test_the_driver_has_the_same_limits() -> None:
    assert So101Config(port="unused").max_velocity == LIMITS.max_velocity
    assert LIMITS.step * LIMITS.rate_hz == pytest.approx(JOINT_SPEED)


@pytest.mark.parametrize("name", ["SO101-PickCube", "SO101-Reach"])
def test_with_a_safety_filter_goals_keep_the_tool_in_its_half_space(name: str) -> None:
    task = make_task(name, safety=ArmFilterConfig(half_spaces=((0.0, 0.0, 1.0, 0.04),)))
    env, bare = make(task), make(make_task(name))
    chain = SerialChain.from_model(task.model, TOOL_SITE)
    for each in (env, bare):
        each.reset(seed=0)
    wild = 2.0 * torch.randn(20, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    low, lowest = torch.tensor(JOINT_LOW), {env: 1.0, bare: 1.0}
    for action in wild:
        for each in (env, bare):
            each.step(action)
            goal = each.sim["ctrl"].clone()
            lowest[each] = min(lowest[each], float(chain.forward(goal[:, :5])[0][:, 2].min()))
            assert (goal >= low - 1e-9).all()
    assert lowest[env] >= 0.04 - 1e-6 > lowest[bare]
    assert env.sim.sensors["servos"].filter.counts.keys() <= {"passed", "changed"}


def test_a_filtered_environment_goes_on_from_a_checkpoint_as_it_would_have() -> None:
    task = make_task("SO101-Reach", safety=ArmFilterConfig(half_spaces=((0.0, 0.0, 1.0, 0.04),)))
    wild = torch.randn(10, 3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    env = make(task)
    env.reset(seed=0)
    for action in wild[:5]:
        env.step(action)
    saved = env.state_dict()
    expected = [env.step(action)[0].clone() for action in wild[5:]]
    again = make(task)
    again.reset(seed=7)
    again.load_state_dict(saved)
    for action, observation in zip(wild[5:], expected, strict=True):
        assert torch.equal(again.step(action)[0], observation)
