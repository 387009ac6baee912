"""robosuite's default arm controller (OSC_POSE) as an engine plugin: torques are computed inside MuJoCo's step.

robosuite computes them in Python between ``mj_step1`` and ``mj_step2``, at every physics step. A plugin's ``compute``
is called at the same place, between the velocity and the acceleration stage, on the thread that steps the world. Here
it is machine code that numba compiles and MuJoCo calls by its address.

What it must know travels in the model, as a numeric field (`ArmParameters`); what it remembers in the state, as
``userdata``: where the tool is to go, and the posture that the null space holds. So a state that is saved, copied or
restored goes on exactly. The first six controls of such a model are the arm's action, read at the first physics step of
every control step, and the seventh, where it is not zero, puts the controller in charge: the motors' forces are then
written over what the engine would make of their controls. At reset all controls are zero, and so are the forces.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from typing import Any

import mujoco
import numpy as np
from numba import carray, cfunc, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from fermo.controllers.operational_space import operational_space_torque
from fermo.envs.core.engine_plugin import activate_plugin, register_plugin
from fermo.envs.core.struct_layout import pointer_offset

PLUGIN = "fermo.operational_space"
JOINTS = 7
SWITCH = 6  # the control that puts the controller in charge
POSTURE, MEMORY = 12, 12 + JOINTS  # the goal's position and rotation, then the posture
TIMESTEP, SUBSTEPS, TOOL_SITE, ROOT_BODY = 0, 1, 2, 3  # where `ArmParameters.flat` has what
BASE_POSITION, BASE_ROTATION, SCALE, STIFFNESS, DAMPING, POSTURE_STIFFNESS, PARAMETERS = 4, 7, 16, 22, 28, 34, 35


@dataclass(frozen=True, kw_only=True)
class ArmParameters:
    """The controller's constants, in the order in which the model's numeric field holds them.

    Attributes:
        timestep: Of the physics [s].
        substeps: Physics steps per action.
        tool_site: Site that follows the action.
        root_body: Root of the arm's kinematic tree.
        base_position: Of the frame that actions are given in [m].
        base_rotation: Of the same, row by row.
        scale: Movement of a full action [m, rad], six numbers.
        stiffness: Acceleration per error of the tool's pose [1/s^2], six numbers.
        damping: Acceleration per velocity of the tool [1/s], six numbers.
        posture_stiffness: Acceleration per error of the joints in the null space [1/s^2]; damped critically.
    """

    timestep: float
    substeps: int
    tool_site: int
    root_body: int
    base_position: tuple[float, ...]
    base_rotation: tuple[float, ...]
    scale: tuple[float, ...]
    stiffness: tuple[float, ...]
    damping: tuple[float, ...]
    posture_stiffness: float

    def flat(self) -> np.ndarray:
        """All numbers, ``(35,)``."""
        return np.concatenate([np.ravel(getattr(self, field.name)) for field in fields(self)]).astype(np.float64)


def add_arm_controller(spec: mujoco.MjSpec, parameters: ArmParameters) -> None:
    """Have models compiled from `spec` drive their first seven joints, by their first seven motors.

    Raises:
        FermoError: MuJoCo's library cannot be used so on this platform.
    """
    register()
    for numeric in list(spec.numerics):  # the compiled code reads the first numbers of the model's numeric data
        spec.delete(numeric)
    spec.add_numeric(name="operational_space", data=parameters.flat(), size=PARAMETERS)
    spec.nuserdata = MEMORY
    activate_plugin(spec, PLUGIN)


@functools.cache
def register() -> None:
    """Compile the controller and make it known to MuJoCo in this process; models that carry it load only afterwards."""
    capability = int(mujoco.mjtPluginCapabilityBit.mjPLUGIN_ACTUATOR)
    register_plugin(PLUGIN, compute=_compiled().address, capabilities=capability)


@functools.cache
def _compiled() -> Any:
    """The compiled callback; it lives as long as the process, for MuJoCo holds its address."""
    data_fields = ("time", "userdata", "ctrl", "qpos", "qvel", "site_xpos", "site_xmat", "subtree_com", "cdof", "M",
                   "qfrc_bias", "actuator_force")  # fmt: skip
    time, memory, ctrl, qpos, qvel, site, frame, com, motion, inertia, bias, force = (
        pointer_offset("mjData", name) for name in data_fields
    )
    numeric, limits, gains = (
        pointer_offset("mjModel", name) for name in ("numeric_data", "actuator_ctrlrange", "actuator_gainprm")
    )

    gain_width = mujoco.MjModel.from_xml_string("<mujoco/>").actuator_gainprm.shape[1]

    # numba's cache looks at this file and at what the function closes over: layouts belong there, not in globals.
    @cfunc(types.void(types.int64, types.int64, types.int32, types.int32), error_model="numpy", cache=True)
    def compute(m, d, instance, capability):
        if _array(_word(d + ctrl), JOINTS)[SWITCH] == 0.0:
            return
        parameters = _array(_word(m + numeric), PARAMETERS)
        tool, root = int(parameters[TOOL_SITE]), int(parameters[ROOT_BODY])
        _drive(
            _array(_word(d + force), JOINTS),
            _array(_word(d + memory), MEMORY),
            parameters,
            _array(d + time, 1)[0],
            _array(_word(d + ctrl), 6),
            _array(_word(d + qpos), JOINTS),
            _array(_word(d + qvel), JOINTS),
            _array(_word(d + site) + 24 * tool, 3),
            _array(_word(d + frame) + 72 * tool, 9).reshape(3, 3),
            _array(_word(d + com) + 24 * root, 3),
            _array(_word(d + motion), 6 * JOINTS).reshape(JOINTS, 6),
            _array(_word(d + inertia), JOINTS * (JOINTS + 1) // 2),
        )
        _limit(
            _array(_word(d + force), JOINTS),
            _array(_word(d + bias), JOINTS),
            _array(_word(m + limits), 2 * JOINTS).reshape(JOINTS, 2),
            _array(_word(m + gains), gain_width * JOINTS).reshape(JOINTS, gain_width),
        )

    return compute


@njit(error_model="numpy", cache=True)
def _drive(torque, memory, parameters, time, action, position, velocity, tool, frame, com, motion, inertia):
    """Write the arm's torque, without the weight it carries."""
    index = int(np.rint(time / parameters[TIMESTEP]))
    if index == 0:
        for joint in range(JOINTS):
            memory[POSTURE + joint] = position[joint]
    if index % int(parameters[SUBSTEPS]) == 0:
        _set_goal(memory, action, tool, frame, parameters)
    jacobian = np.empty((6, JOINTS))
    lever = tool[0] - com[0], tool[1] - com[1], tool[2] - com[2]
    for joint in range(JOINTS):
        spin = motion[joint, 0], motion[joint, 1], motion[joint, 2]
        swept = _cross(spin, lever)
        for k in range(3):
            jacobian[k, joint] = motion[joint, 3 + k] + swept[k]
            jacobian[3 + k, joint] = spin[k]
    task = np.empty(6)
    _pose_error(task, memory, tool, frame, parameters)
    for row in range(6):
        speed = 0.0
        for joint in range(JOINTS):
            speed += jacobian[row, joint] * velocity[joint]
        task[row] = parameters[STIFFNESS + row] * task[row] - parameters[DAMPING + row] * speed
    stiffness, damping = parameters[POSTURE_STIFFNESS], 2.0 * np.sqrt(parameters[POSTURE_STIFFNESS])
    posture, full = np.empty(JOINTS), np.empty((JOINTS, JOINTS))
    for row in range(JOINTS):
        posture[row] = stiffness * (memory[POSTURE + row] - position[row]) - damping * velocity[row]
        for column in range(row + 1):  # a chain's rows follow each other, lower triangle only
            full[row, column] = inertia[row * (row + 1) // 2 + column]
    operational_space_torque(torque, full, jacobian, task, posture)


@njit(error_model="numpy", cache=True)
def _limit(torque, bias, limits, gains):
    """Carry the weight, and keep to the motors' limits."""
    for joint in range(JOINTS):
        command = min(max(torque[joint] + bias[joint], limits[joint, 0]), limits[joint, 1])
        torque[joint] = gains[joint, 0] * command


@njit(error_model="numpy", cache=True)
def _set_goal(memory, action, tool, frame, parameters):
    """The tool's pose now, in the base frame, moved by the action."""
    moved, relative, turn = np.empty(6), np.empty((3, 3)), np.empty((3, 3))
    for row in range(6):
        moved[row] = parameters[SCALE + row] * min(max(action[row], -1.0), 1.0)
    _rotation(turn, moved[3], moved[4], moved[5])
    for row in range(3):
        memory[row] = moved[row]
        for k in range(3):
            memory[row] += parameters[BASE_ROTATION + 3 * k + row] * (tool[k] - parameters[BASE_POSITION + k])
            relative[row, k] = 0.0
            for inner in range(3):
                relative[row, k] += parameters[BASE_ROTATION + 3 * inner + row] * frame[inner, k]
    for row in range(3):
        for column in range(3):
            total = 0.0
            for k in range(3):
                total += turn[row, k] * relative[k, column]
            memory[3 + 3 * row + column] = total


@njit(error_model="numpy", cache=True)
def _pose_error(error, memory, tool, frame, parameters):
    """From the tool to its goal: position [m], and the sine of the angle about its axis."""
    wanted = np.empty((3, 3))
    for row in range(3):
        error[row] = parameters[BASE_POSITION + row] - tool[row]
        error[3 + row] = 0.0
        for k in range(3):
            error[row] += parameters[BASE_ROTATION + 3 * row + k] * memory[k]
            wanted[row, k] = 0.0
            for inner in range(3):
                wanted[row, k] += parameters[BASE_ROTATION + 3 * row + inner] * memory[3 + 3 * inner + k]
    for k in range(3):
        now, then = (frame[0, k], frame[1, k], frame[2, k]), (wanted[0, k], wanted[1, k], wanted[2, k])
        swept = _cross(now, then)
        for row in range(3):
            error[3 + row] += 0.5 * swept[row]


@njit(error_model="numpy", cache=True)
def _rotation(matrix, rx, ry, rz):
    """Matrix of a rotation vector [rad]; by a single precision quaternion, as robosuite has it."""
    angle = np.sqrt(rx * rx + ry * ry + rz * rz)
    sine, length = np.sin(angle / 2.0), angle if angle > 0.0 else 1.0
    w, x = np.float32(np.cos(angle / 2.0)), np.float32(rx / length * sine)
    y, z = np.float32(ry / length * sine), np.float32(rz / length * sine)
    square = np.float64(w * w) + np.float64(x * x) + np.float64(y * y) + np.float64(z * z)  # as BLAS adds up so few
    scale = np.sqrt(2.0 / np.float64(np.float32(square)))
    w, x, y, z = np.float32(w * scale), np.float32(x * scale), np.float32(y * scale), np.float32(z * scale)
    matrix[0, 0], matrix[0, 1], matrix[0, 2] = 1.0 - y * y - z * z, x * y - z * w, x * z + y * w
    matrix[1, 0], matrix[1, 1], matrix[1, 2] = x * y + z * w, 1.0 - x * x - z * z, y * z - x * w
    matrix[2, 0], matrix[2, 1], matrix[2, 2] = x * z - y * w, y * z + x * w, 1.0 - x * x - y * y


@njit(error_model="numpy", cache=True)
def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@intrinsic
def _pointer(typing_context, address):  # numba passes the first argument itself
    """An integer as a pointer."""

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), codegen


@njit
def _array(address, size):
    """The `size` float64 numbers at an address."""
    return carray(_pointer(address), (size,), np.float64)  # type: ignore[call-arg]


@njit
def _word(address):
    """The integer at an address."""
    return carray(_pointer(address), (1,), np.int64)[0]  # type: ignore[call-arg]
