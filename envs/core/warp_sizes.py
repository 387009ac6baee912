"""How many contacts and constraint rows a model needs: GPU buffers are fixed, and too small a one corrupts physics."""

from __future__ import annotations

import mujoco
import numpy as np

POSES = 16
STEPS = 40


def probe_sizes(model: mujoco.MjModel) -> tuple[int, int]:
    """Contacts and constraint rows to allocate per world: twice the most seen in a short probe, rounded up.

    The probe starts from random poses of the limited joints and applies random controls; it is the same at every call.
    A model that reaches states with far more contacts needs its sizes given, and says so when it overflows.
    """
    generator = np.random.default_rng(0)
    data = mujoco.MjData(model)
    contacts = rows = 0
    for pose in range(POSES):
        mujoco.mj_resetData(model, data)
        if pose:  # the first is the model's own
            _scatter(model, data, generator)
        for _ in range(STEPS):
            if model.nu:
                low, high = np.where(model.actuator_ctrllimited[:, None] != 0, model.actuator_ctrlrange, (-1.0, 1.0)).T
                data.ctrl[:] = generator.uniform(low, high)
            mujoco.mj_step(model, data)
            contacts, rows = max(contacts, data.ncon), max(rows, data.nefc)
    return _round_up(2 * contacts + 8), _round_up(2 * rows + 16)


def _scatter(model: mujoco.MjModel, data: mujoco.MjData, generator: np.random.Generator) -> None:
    for joint in range(model.njnt):
        if model.jnt_limited[joint] and model.jnt_type[joint] != int(mujoco.mjtJoint.mjJNT_BALL):
            data.qpos[model.jnt_qposadr[joint]] = generator.uniform(*model.jnt_range[joint])


def _round_up(count: int) -> int:
    return -(-count // 16) * 16
