"""The SO-101 scene: what stands in it, what touches what, and whether the jaw can hold the cube."""

import mujoco
import numpy as np
import pytest

from fermo.assets.scenes.so101 import CUBE_HALF_SIZE, HOME_QPOS, JOINT_NAMES, TOOL_SITE, so101_scene
from fermo.assets.so101_plant import JOINT_HIGH, JOINT_LOW

PADS = ("fixed_jaw_pad", "moving_jaw_pad")
CUBE_IN_TOOL = np.array([0.0, 0.0, 0.0064 + CUBE_HALF_SIZE])
"""Centre of a cube that lies against the fixed pad."""


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return so101_scene().compile()


def may_touch(model: mujoco.MjModel, a: str, b: str) -> bool:
    first, second = model.geom(a), model.geom(b)
    return bool(first.contype & second.conaffinity) or bool(second.contype & first.conaffinity)


def test_cube_and_joints_are_the_tasks(model: mujoco.MjModel) -> None:
    cube = model.geom("cube")
    np.testing.assert_allclose(2 * cube.size, [0.03] * 3)
    assert float(model.body("cube").mass[0]) == pytest.approx(0.020)
    np.testing.assert_allclose(model.body("cube").inertia, 0.020 * 0.03**2 / 6, rtol=1e-9)
    assert tuple(model.joint(i).name for i in range(6)) == JOINT_NAMES
    assert tuple(model.actuator(i).name for i in range(model.nu)) == JOINT_NAMES
    np.testing.assert_allclose(model.jnt_range[:6], np.array([JOINT_LOW, JOINT_HIGH]).T, atol=1e-6)
    assert so101_scene(with_cube=False).compile().nq == 6


def test_pads_touch_the_cube_and_robot_parts_do_not_touch_one_another(model: mujoco.MjModel) -> None:
    assert all(may_touch(model, pad, "cube") and may_touch(model, pad, "floor") for pad in PADS)
    assert may_touch(model, "cube", "floor")
    assert not may_touch(model, *PADS)
    robot = [i for i in range(model.ngeom) if model.geom(i).name not in ("cube", "floor")]
    assert not any(model.geom_contype[robot])


def test_home_is_clear_of_everything(model: mujoco.MjModel) -> None:
    data = mujoco.MjData(model)
    data.qpos[:6] = HOME_QPOS
    mujoco.mj_forward(model, data)
    touching = {model.geom(int(i)).name for contact in data.contact for i in contact.geom}
    assert touching <= {"cube", "floor"}


def grasped_cube(spec: mujoco.MjSpec, seconds: float) -> float:
    """How far the cube slides in the tool frame [m] while the jaw presses, after a moment without gravity."""
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[:6] = (*HOME_QPOS[:5], 0.5)
    data.ctrl[:] = data.qpos[:6]
    mujoco.mj_forward(model, data)
    tool = model.site(TOOL_SITE).id
    rotation = data.site_xmat[tool].reshape(3, 3)
    data.qpos[6:9] = data.site_xpos[tool] + rotation @ CUBE_IN_TOOL
    mujoco.mju_mat2Quat(data.qpos[9:13], data.site_xmat[tool])
    data.ctrl[5] = -0.1

    def cube() -> np.ndarray:
        return data.site_xmat[tool].reshape(3, 3).T @ (data.qpos[6:9] - data.site_xpos[tool])

    gravity, model.opt.gravity[:] = model.opt.gravity.copy(), 0.0
    mujoco.mj_step(model, data, nstep=round(0.5 / model.opt.timestep))
    model.opt.gravity[:] = gravity
    held_at = cube()
    mujoco.mj_step(model, data, nstep=round(seconds / model.opt.timestep))
    return float(np.linalg.norm(cube() - held_at))


def test_closed_pads_hold_the_cube() -> None:
    assert grasped_cube(so101_scene(), 3.0) < CUBE_HALF_SIZE / 2  # soft contacts let it creep a little


def test_without_its_pads_the_jaw_holds_nothing() -> None:
    spec = so101_scene()
    for pad in PADS:
        spec.geom(pad).conaffinity = 0
    assert grasped_cube(spec, 3.0) > 0.05
