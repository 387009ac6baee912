"""Joint impedance: against MuJoCo on the SO-101, and against the closed form of a damped spring."""

import math

import mujoco
import numpy as np
import pytest
import torch

from fermo.assets.scenes.so101 import HOME_QPOS, TOOL_SITE, so101_scene
from fermo.controllers.base import Controller
from fermo.controllers.joint_impedance import JointImpedance, JointImpedanceConfig
from fermo.controllers.kinematics import SerialChain

PENDULUM = """
<mujoco>
  <option timestep="1e-4"/>
  <worldbody>
    <body>
      <joint name="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0.3 0 0" size="0.02" mass="0.5"/>
      <site name="tip" pos="0.3 0 0"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge"/></actuator>
</mujoco>
"""


def config(n: int, stiffness: float, damping: float, torque_limit: float = 100.0) -> JointImpedanceConfig:
    return JointImpedanceConfig(stiffness=(stiffness,) * n, damping=(damping,) * n, torque_limit=(torque_limit,) * n)


def run(
    model: mujoco.MjModel, controller: JointImpedance, target: np.ndarray, data: mujoco.MjData, seconds: float
) -> None:
    """Closed loop at every physics step, on the first n joints; `target` ``(2, n)``."""
    n = target.shape[1]
    goal = torch.tensor(target)[None]
    for _ in range(round(seconds / model.opt.timestep)):
        state = {"joint_position": data.qpos[:n], "joint_velocity": data.qvel[:n]}
        data.ctrl[:n] = controller.command(goal, {name: torch.tensor(v)[None] for name, v in state.items()})[0].numpy()
        mujoco.mj_step(model, data)


def torque_arm() -> mujoco.MjModel:
    """The SO-101 with motors and no dry friction in the arm; the jaw keeps its servo."""
    spec = so101_scene(with_cube=False, timestep=0.002)
    for actuator in spec.actuators[:5]:
        actuator.set_to_motor()
        actuator.forcelimited = mujoco.mjtLimited.mjLIMITED_FALSE
        actuator.ctrllimited = mujoco.mjtLimited.mjLIMITED_FALSE
    for joint in spec.joints[:5]:
        joint.frictionloss = 0.0
    return spec.compile()


def test_the_arm_settles_at_its_target() -> None:
    model = torque_arm()
    data = mujoco.MjData(model)
    data.qpos[:5] = HOME_QPOS[:5]
    target = np.array([[0.6, -0.4, 0.5, 0.8, -0.7], [0.0] * 5])
    run(model, JointImpedance(SerialChain.from_model(model, TOOL_SITE), config(5, 8.0, 0.6)), target, data, 2.0)
    np.testing.assert_allclose(data.qpos[:5], target[0], atol=2e-3)
    np.testing.assert_allclose(data.qvel[:5], 0.0, atol=1e-2)


def test_pushed_it_yields_by_torque_over_stiffness() -> None:
    model = torque_arm()
    data = mujoco.MjData(model)
    data.qpos[:5] = HOME_QPOS[:5]
    data.qfrc_applied[0] = 0.4
    target = np.array([HOME_QPOS[:5], (0.0,) * 5])
    run(model, JointImpedance(SerialChain.from_model(model, TOOL_SITE), config(5, 8.0, 0.6)), target, data, 2.0)
    assert data.qpos[0] - HOME_QPOS[0] == pytest.approx(0.4 / 8.0, abs=1e-3)


@pytest.mark.parametrize("ratio", [0.2, 1.0, 2.5])
def test_one_joint_is_a_damped_spring(ratio: float) -> None:
    """Gravity is cancelled, so I q'' + D q' + K q = 0 whatever the angle; K = I w^2, D = 2 ratio I w."""
    model = mujoco.MjModel.from_xml_string(PENDULUM)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    inertia, w, start = float(data.M[0]), 9.0, 0.8
    chain = SerialChain.from_model(model, "tip")
    controller = JointImpedance(chain, config(1, inertia * w**2, 2 * ratio * inertia * w))
    data.qpos[0] = start
    for seconds in (0.05, 0.15, 0.30):
        run(model, controller, np.zeros((2, 1)), data, seconds - data.time)
        assert data.qpos[0] == pytest.approx(start * _damped(ratio, w, seconds), abs=2e-3)


def _damped(ratio: float, w: float, t: float) -> float:
    """x(t) of x'' + 2 ratio w x' + w^2 x = 0 from x = 1, x' = 0."""
    if ratio == 1.0:
        return (1.0 + w * t) * math.exp(-w * t)
    root = complex(ratio**2 - 1.0) ** 0.5
    a, b = w * (-ratio + root), w * (-ratio - root)
    x = (b * np.exp(a * t) - a * np.exp(b * t)) / (b - a)
    return float(x.real)


def test_worlds_are_independent_and_torque_is_limited() -> None:
    model = torque_arm()
    chain = SerialChain.from_model(model, TOOL_SITE)
    controller: Controller = JointImpedance(chain, config(5, 8.0, 0.6, torque_limit=0.5))
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(7, 2, 5, dtype=torch.float64, generator=generator)
    position, velocity = torch.randn(2, 7, 5, dtype=torch.float64, generator=generator)
    state = {"joint_position": position, "joint_velocity": velocity}
    torque = controller.command(target, state)
    assert torque.abs().max() == 0.5
    alone = [controller.command(target[i : i + 1], {k: v[i : i + 1] for k, v in state.items()}) for i in range(7)]
    torch.testing.assert_close(torch.cat(alone), torque)
    still = {"joint_position": target[:, 0], "joint_velocity": target[:, 1]}
    weight = chain.gravity_torque(target[:, 0]).clamp(-0.5, 0.5)
    torch.testing.assert_close(controller.command(target, still), weight)


def test_what_does_not_fit_is_refused() -> None:
    model = mujoco.MjModel.from_xml_string(PENDULUM)
    with pytest.raises(ValueError, match="has 1 joints"):
        JointImpedance(SerialChain.from_model(model, "tip"), config(2, 1.0, 1.0))
    with pytest.raises(ValueError, match="one value a joint"):
        JointImpedanceConfig(stiffness=(1.0,), damping=(1.0, 1.0), torque_limit=(1.0,))
    with pytest.raises(ValueError, match="must not be negative"):
        config(1, -1.0, 1.0)
