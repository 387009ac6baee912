"""The kitchen without what is only seen: it moves as the whole one does, and its files say what the task reads."""

import mujoco
import numpy as np
import pytest

from fermo.assets.catalogue import resolve
from fermo.assets.scenes.franka_kitchen import (
    ARM_JOINTS,
    FINGER_JOINTS,
    TOOL_SITE,
    joint_specifications,
    kitchen_picture,
    kitchen_scene,
)


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return kitchen_scene().compile()


def test_joints_come_in_the_benchmarks_order(model: mujoco.MjModel) -> None:
    assert (model.nq, model.nv, model.nu) == (30, 29, 9)
    names = [model.joint(i).name for i in range(model.njnt)]
    assert tuple(names[:9]) == ARM_JOINTS + FINGER_JOINTS
    assert [names[i] for i in (11, 12, 15, 16, 17, 19, 20, 21, 22, 23)] == [
        "knob_Joint_2", "bottom_left_burner", "knob_Joint_4", "top_left_burner", "light_switch", "slide_cabinet",
        "left_hinge_cabinet", "right_hinge_cabinet", "microwave", "kettle",
    ]  # fmt: skip
    assert float(model.opt.timestep) == 0.002
    assert TOOL_SITE in [model.site(i).name for i in range(model.nsite)]


def test_pictures_show_the_same_joints(model: mujoco.MjModel) -> None:
    picture = kitchen_picture().compile()
    assert picture.nq == model.nq and picture.ngeom > model.ngeom
    np.testing.assert_array_equal(picture.jnt_qposadr, model.jnt_qposadr)


def test_specifications_are_those_of_the_robot() -> None:
    bounds = joint_specifications("pos_bound")
    assert bounds[0] == (-2.9, 2.9) and bounds[5] == (0.0, 3.8) and bounds[8] == (0.0, 0.04)
    assert all(low == -10.0 and high == 10.0 for low, high in joint_specifications("vel_bound")[:9])
    assert joint_specifications("pos_noise_amp")[0] == (0.1,)


@pytest.mark.slow
def test_the_whole_model_moves_bitwise_the_same(model: mujoco.MjModel) -> None:
    """Compiling the whole one takes ten seconds."""
    whole = mujoco.MjModel.from_xml_path(str(resolve("franka_kitchen")))
    assert whole.ngeom > model.ngeom + 100
    states = []
    for each in (whole, model):
        data, generator = mujoco.MjData(each), np.random.default_rng(0)
        mujoco.mj_resetDataKeyframe(each, data, 0)
        for _ in range(20):
            data.ctrl[:] = data.qpos[:9] + 0.16 * generator.uniform(-1.0, 1.0, 9)
            mujoco.mj_step(each, data, 40)
        states.append(np.concatenate([data.qpos, data.qvel]))
    np.testing.assert_array_equal(*states)
