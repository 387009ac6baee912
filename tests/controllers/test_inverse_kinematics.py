"""Damped least squares: what it reaches, what it never exceeds, and mink as a second opinion."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from fermo.assets.scenes.so101 import HOME_QPOS, TOOL_SITE, so101_scene
from fermo.controllers.inverse_kinematics import InverseKinematics, InverseKinematicsConfig
from fermo.controllers.kinematics import SerialChain, rotation_vector
from tests.controllers.chains import SEVEN_AXES, compile_model, site_pose

REST = torch.tensor([0.3, 0.6, -0.2, 0.9, 0.1, 0.8, 0.0], dtype=torch.float64)


@pytest.fixture(scope="module")
def redundant() -> SerialChain:
    return SerialChain.from_model(compile_model(SEVEN_AXES), "tool")


@pytest.fixture(scope="module")
def so101() -> SerialChain:
    return SerialChain.from_model(so101_scene(with_cube=False).compile(), TOOL_SITE)


def pose_error(chain: SerialChain, q: torch.Tensor, position: torch.Tensor, rotation: torch.Tensor):
    """Distance [m] and angle [rad] between the site at `q` and a pose, each ``(N,)``."""
    p, r, _ = chain.forward(q)
    return (p - position).norm(dim=1), rotation_vector(rotation @ r.transpose(1, 2)).norm(dim=1)


def near(q: torch.Tensor, spread: float, seed: int = 0) -> torch.Tensor:
    return q + spread * torch.randn(q.shape, generator=torch.Generator().manual_seed(seed), dtype=q.dtype)


HOME = torch.tensor(HOME_QPOS[:5], dtype=torch.float64)


@pytest.mark.parametrize(("arm", "rest", "spread"), [("redundant", REST, 0.3), ("so101", HOME, 0.2)])
def test_poses_that_the_arm_can_hold_are_reached(arm: str, rest: torch.Tensor, spread: float, request) -> None:
    """With an axis to spare, and with one too few for any pose."""
    chain: SerialChain = request.getfixturevalue(arm)
    truth = near(rest.expand(64, -1), spread).clamp(chain.low, chain.high)
    position, rotation, _ = chain.forward(truth)
    ik = InverseKinematics(chain, rest, InverseKinematicsConfig(iterations=200, damping=0.005, posture_gain=0.0))
    distance, angle = pose_error(chain, ik.solve(position, rotation, near(truth, 0.3, seed=1)), position, rotation)
    assert distance.max() < 1e-4
    assert angle.max() < 1e-3


def test_limits_hold_even_for_a_pose_out_of_reach(redundant: SerialChain) -> None:
    config = InverseKinematicsConfig(iterations=5, max_step=0.07)
    ik = InverseKinematics(redundant, REST, config)
    start = near(REST.expand(32, 7), 1.5)
    position = torch.tensor([[5.0, -3.0, -2.0]], dtype=torch.float64).expand(32, 3)
    rotation = torch.eye(3, dtype=torch.float64).expand(32, 3, 3)
    assert (ik.step(position, rotation, start).abs() <= config.max_step).all()
    q = ik.solve(position, rotation, start)
    inside = start.clamp(redundant.low, redundant.high)
    assert ((q >= redundant.low) & (q <= redundant.high)).all()
    assert ((q - inside).abs() <= config.iterations * config.max_step + 1e-12).all()
    assert (q != inside).any()


def test_a_joint_never_outruns_its_velocity_limit(redundant: SerialChain) -> None:
    """Called at 25 Hz with 2 rad/s, the arm gets there, only later."""
    travel = 2.0 / 25.0
    q = near(REST.expand(16, 7), 0.3).clamp(redundant.low, redundant.high)
    position, rotation, _ = redundant.forward(near(REST.expand(16, 7), 0.2, seed=1))
    ik = InverseKinematics(redundant, REST, InverseKinematicsConfig(damping=0.005, posture_gain=0.0, max_travel=travel))
    fastest = 0.0
    for _ in range(60):
        ahead = ik.solve(position, rotation, q)
        fastest = max(fastest, float((ahead - q).abs().max()))
        q = ahead
    assert 0.99 * travel < fastest <= travel + 1e-12
    assert pose_error(redundant, q, position, rotation)[0].max() < 1e-3


def test_a_half_turn_away_is_not_taken_for_arrived(redundant: SerialChain) -> None:
    start = REST[None]
    position, rotation, _ = redundant.forward(start)
    flipped = rotation @ torch.diag(torch.tensor([-1.0, -1.0, 1.0], dtype=torch.float64))
    assert InverseKinematics(redundant, REST).step(position, flipped, start).abs().max() > 0.05


def test_posture_moves_in_the_null_space_towards_rest(redundant: SerialChain) -> None:
    """The fixed point is a stationary point of the distance to rest over the poses that keep the tip."""
    start = near(REST.expand(16, 7), 0.3)
    position, rotation, _ = redundant.forward(start)
    ik = InverseKinematics(redundant, REST, InverseKinematicsConfig(iterations=400, damping=1e-3, posture_gain=0.1))
    q = ik.solve(position, rotation, start)
    distance, angle = pose_error(redundant, q, position, rotation)
    assert distance.max() < 1e-5
    assert angle.max() < 1e-4
    before, after = (start - REST).norm(dim=1), (q - REST).norm(dim=1)
    assert (after <= before + 1e-6).all()
    assert (after < 0.95 * before).any()
    _, _, jacobian = redundant.forward(q)
    null = torch.linalg.svd(jacobian).Vh[:, 6:]
    assert ((null @ (REST - q)[:, :, None]).abs() < 1e-3).all()


def test_damping_trades_the_tip_for_calm_only_slightly(redundant: SerialChain) -> None:
    """With the default damping the posture pulls the tip off by lambda^2 |J^-T k (rest - q)| at most."""
    start = near(REST.expand(16, 7), 0.2)
    position, rotation, _ = redundant.forward(start)
    q = InverseKinematics(redundant, REST, InverseKinematicsConfig(iterations=200)).solve(position, rotation, start)
    distance, angle = pose_error(redundant, q, position, rotation)
    assert distance.max() < 5e-4
    assert angle.max() < 1e-2


def test_a_batch_is_its_worlds_one_by_one(redundant: SerialChain) -> None:
    start = near(REST.expand(6, 7), 0.3)
    position, rotation, _ = redundant.forward(near(start, 0.2, seed=1))
    ik = InverseKinematics(redundant, REST)
    together = ik.solve(position, rotation, start)
    for world in range(6):
        row = slice(world, world + 1)
        torch.testing.assert_close(ik.solve(position[row], rotation[row], start[row]), together[row])
    target = torch.cat([position, rotation.reshape(6, 9)], dim=1)
    assert torch.equal(ik.command(target, {"joint_position": start}), together)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("damping", 0.0),
        ("max_step", -1.0),
        ("max_travel", 0.0),
        ("orientation_weight", math.nan),
        ("iterations", 0),
        ("posture_gain", 1.5),
    ],
)
def test_refused_configurations(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{field} must .*, got {value}"):
        InverseKinematicsConfig(**{field: value})


def test_mink_agrees(redundant: SerialChain) -> None:
    """Same poses, same starts, one quadratic program a step: both arrive, and at nearly the same posture."""
    mink = pytest.importorskip("mink", reason="mink comes with the robosuite extra")
    model = compile_model(SEVEN_AXES)
    truth = near(REST.expand(6, 7), 0.25)
    starts = near(truth, 0.2, seed=1)
    position, rotation, _ = redundant.forward(truth)
    config = InverseKinematicsConfig(iterations=300, damping=1e-3, posture_gain=0.1, orientation_weight=1.0)
    ours = InverseKinematics(redundant, REST, config).solve(position, rotation, starts)
    our_distance, our_angle = pose_error(redundant, ours, position, rotation)
    for world in range(len(truth)):
        frame = mink.FrameTask("tool", "site", position_cost=1.0, orientation_cost=1.0)
        target = mink.SE3.from_rotation_and_translation(
            mink.SO3.from_matrix(rotation[world].numpy()), position[world].numpy()
        )
        frame.set_target(target)
        posture = mink.PostureTask(model, cost=1e-3)
        posture.set_target(REST.numpy())
        configuration = mink.Configuration(model, starts[world].numpy().copy())
        for _ in range(150):
            velocity = mink.solve_ik(configuration, [frame, posture], dt=0.1, solver="quadprog")
            configuration.integrate_inplace(velocity, 0.1)
        theirs = site_pose(model, configuration.q)
        assert abs(float(our_distance[world]) - np.linalg.norm(theirs[0] - position[world].numpy())) < 1e-4
        turn = rotation_vector(rotation[world : world + 1] @ torch.from_numpy(theirs[1]).T[None])
        assert abs(float(our_angle[world]) - float(turn.norm())) < 1e-3
        np.testing.assert_allclose(ours[world], configuration.q, atol=5e-3)
