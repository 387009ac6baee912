"""What the kitchen's expert is made of: the arm's law, way-points, the hand that walks them, parts that move."""

from __future__ import annotations

import math

import mujoco
import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.tasks.franka_kitchen import ARM, ROBOT, START_QPOS, FrankaKitchen, FrankaKitchenConfig
from fermo.training.demos.kitchen_arm import FINGERTIP, KitchenArm
from fermo.training.demos.kitchen_hand import WalkingHand
from fermo.training.demos.kitchen_ways import OPEN, Part, Way, chain, hand_rotation, row


@pytest.fixture(scope="module")
def task() -> FrankaKitchen:
    return FrankaKitchen(FrankaKitchenConfig(robot_noise_ratio=0.0, object_noise_ratio=0.0, start_spread=0.0))


def test_the_arm_is_where_it_was_sent_a_step_later(task: FrankaKitchen) -> None:
    """Its law neglects inertia, which costs a few milliradians at a speed that changes at once."""
    arm = KitchenArm(task)
    env = VectorEnv(task, 1, autoreset_mode=AutoresetMode.DISABLED, backend_options={"num_threads": 1})
    env.reset(seed=0)
    start = env.sim["qpos"][:, ROBOT].clone()
    target = start.clone()
    for k in range(1, 9):
        target[:, ARM] = start[:, ARM] + 0.02 * k * torch.tensor([1, 1, -1, 1, -1, 1, -1])
        target[:, 7:] = 0.02
        env.step(arm.action(env.sim["qpos"][:, ROBOT], target))
    error = (env.sim["qpos"][:, ROBOT] - target).abs()[0]
    assert error[ARM].max() < 4e-3 and error[7:].max() < 2e-3


def test_actions_stay_within_their_bounds(task: FrankaKitchen) -> None:
    robot = torch.tensor([START_QPOS[:9]], dtype=torch.float64)
    action = KitchenArm(task).action(robot, robot + 1.0)
    assert action.abs().max() == 1.0


def test_finger_tips_lie_beyond_the_tools_site(task: FrankaKitchen) -> None:
    data = mujoco.MjData(task.model)
    data.qpos[:] = START_QPOS
    mujoco.mj_kinematics(task.model, data)
    site = data.site("end_effector")
    position, rotation = KitchenArm(task).pose(torch.tensor([START_QPOS[:7]], dtype=torch.float64))
    expected = site.xpos + FINGERTIP * site.xmat.reshape(3, 3)[:, 2]
    torch.testing.assert_close(position[0], torch.from_numpy(expected), atol=1e-9, rtol=0.0)
    torch.testing.assert_close(rotation[0], torch.from_numpy(site.xmat.reshape(3, 3).copy()), atol=1e-9, rtol=0.0)


@pytest.mark.parametrize(("joint", "site", "value"), [("microwave", "microhandle_site", -0.7), ("slide_cabinet",
                         "slide_site", 0.3), ("right_hinge_cabinet", "hinge_site2", 1.1)])  # fmt: skip
def test_parts_move_as_mujoco_moves_them(task: FrankaKitchen, joint: str, site: str, value: float) -> None:
    part, data = Part(task.model, joint, site), mujoco.MjData(task.model)
    data.qpos[part.element] = value
    mujoco.mj_kinematics(task.model, data)
    found = part.at(torch.tensor([0.0, value], dtype=torch.float64))
    torch.testing.assert_close(found[1], torch.from_numpy(data.site(site).xpos.copy()), atol=1e-9, rtol=0.0)
    torch.testing.assert_close(found[0], part.site, atol=1e-12, rtol=0.0)


directions = st.tuples(st.floats(-1, 1), st.floats(0.1, 1), st.floats(-1, 1))


@settings(max_examples=40, deadline=None)
@given(pointing=directions, roll=st.floats(-3, 3))
def test_a_hand_points_where_it_shall_and_opens_horizontally_before_it_rolls(pointing: tuple, roll: float) -> None:
    level, rolled = hand_rotation(pointing), hand_rotation(pointing, roll)
    eye = torch.eye(3, dtype=torch.float64)
    for rotation in (level, rolled):
        torch.testing.assert_close(rotation @ rotation.T, eye, atol=1e-9, rtol=0.0)
        assert float(torch.det(rotation)) == pytest.approx(1.0)
        along = torch.tensor(pointing, dtype=torch.float64)
        torch.testing.assert_close(rotation[:, 2], along / along.norm(), atol=1e-9, rtol=0.0)
    assert abs(float(level[2, 1])) < 1e-12
    assert float(level[:, 1] @ rolled[:, 1]) == pytest.approx(math.cos(roll), abs=1e-9)


def walker(position: Tensor, ways: list[Way], longest: float = 0.03) -> WalkingHand:
    n = len(position)
    hand = WalkingHand(position, hand_rotation((0.0, 1.0, 0.0)).expand(n, 3, 3), longest=torch.full((n,), longest),
                       widest=torch.full((n,), 0.2), patience=4)  # fmt: skip
    hand.set_out(torch.arange(n), chain(ways))
    return hand


@settings(max_examples=12, deadline=None)
@given(end=st.tuples(*[st.floats(-0.3, 0.3)] * 3), pointing=directions)
def test_a_hand_walks_straight_no_faster_than_it_may_and_arrives(end: tuple, pointing: tuple) -> None:
    start, goal = torch.zeros(1, 3, dtype=torch.float64), torch.tensor([end], dtype=torch.float64)
    hand = walker(start, [Way(position=goal, pointing=pointing, opening=OPEN)])
    for _ in range(60):
        before = hand.position
        hand.advance(hand.position)
        assert float((hand.position - before).norm()) <= 0.03 + 1e-12
        off = torch.linalg.cross(hand.position, goal).norm()
        assert float(off) < 1e-9
    assert bool(hand.idle) and float(hand.opening) == OPEN
    torch.testing.assert_close(hand.position, goal, atol=1e-9, rtol=0.0)
    torch.testing.assert_close(hand.rotation[0], hand_rotation(pointing), atol=1e-7, rtol=0.0)


def test_a_hand_waits_for_tips_that_lag_and_loses_patience_with_tips_that_stay() -> None:
    start = torch.zeros(2, 3, dtype=torch.float64)
    hand = walker(start, [Way(position=start + row(0.3, 0.0, 0.0), pointing=(0.0, 1.0, 0.0), pause=2)])
    stuck = torch.tensor([False, True])
    steps = torch.zeros(2, dtype=torch.int64)
    for _ in range(200):
        steps += ~hand.idle
        hand.advance(torch.where(stuck[:, None], start, hand.position))
    assert hand.idle.all()
    assert int(steps[0]) in (12, 13)  # ten steps of 3 cm, two of pause, and the step that ends it
    assert int(steps[1]) > 2 * int(steps[0])


def test_a_hand_that_is_satisfied_leaves_the_way_it_would_have_left_later() -> None:
    start = torch.zeros(2, 3, dtype=torch.float64)
    forward = (0.0, 1.0, 0.0)
    ways = [Way(position=start + row(0.3, 0.0, 0.0), pointing=forward),
            Way(position=start + row(0.3, -0.06, 0.0), pointing=forward, leaving=True)]  # fmt: skip
    hand = walker(start, ways)
    for _ in range(4):
        hand.advance(hand.position)
    at = hand.position.clone()
    hand.leave(torch.tensor([True, False]))
    for _ in range(30):
        hand.advance(hand.position)
    expected = torch.stack([at[0] + row(0.0, -0.06, 0.0), row(0.3, -0.06, 0.0)])
    torch.testing.assert_close(hand.position, expected, atol=1e-9, rtol=0.0)
    assert hand.idle.all()


def test_a_miss_is_aside_and_given_up_after_three_way_points() -> None:
    start = torch.zeros(1, 3, dtype=torch.float64)
    ways = chain([Way(position=start + row(0.0, 0.1 * k, 0.0), pointing=(0.0, 1.0, 0.0)) for k in range(5)])
    missed = ways.missing(torch.tensor([0.06], dtype=torch.float64))
    torch.testing.assert_close(missed.position - ways.position[:, :3], row(0.06, 0.0, 0.0).expand(1, 3, 3))
    assert missed.pause.shape == (1, 3) and missed.rotation.shape == (1, 3, 3, 3)
