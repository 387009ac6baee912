"""The SO-101 twin's world: MuJoCo at 1 kHz, six servos with their own firmware, and a cube."""

from __future__ import annotations

import math
from typing import Any

import mujoco
import numpy as np

from fermo.assets.scenes.so101 import CUBE_HALF_SIZE, HOME_QPOS, JOINT_NAMES, TOOL_SITE, so101_scene
from fermo.assets.so101_plant import JOINT_HIGH, JOINT_LOW
from fermo.errors import FermoError
from fermo.hardware.calibration import Calibration, JointCalibration
from fermo.hardware.sts3215 import COUNTS_PER_TURN, RADIANS_PER_COUNT
from fermo.hardware.twins.servo import NOMINAL_VOLTAGE, PERIOD, PROTECTION_PERIOD, Servo

TWIN_DIFFERENCES: tuple[str, ...] = (
    "servos run their own position loop at 1 kHz on 4096 counts a turn; the simulator has an ideal spring and damper",
    "the servos see goals only through the bus, from a 100 Hz servo loop that interpolates the policy's 25 Hz targets",
    "damping comes from the motor's back-EMF and supply sag; stiffness is 17.1 Nm/rad, the simulator's 17.8",
    "each gear has 0.5 degrees of play and each servo a dead zone of one count",
    "torque is capped by the servo's voltage and current, and trips on overload, heat or a bad supply",
    "physics steps of 1 ms instead of 5 ms",
    "the cube is 5 % heavier and its contacts 10 % more slippery",
    "joint friction is 30 % higher",
    "encoders are mounted with their own offsets and signs, known to the driver only through its calibration file",
)
"""How the twin departs from the simulator that policies are trained in."""

_ZERO_COUNTS = (2071, 1986, 2113, 2040, 2009, 2096)
_SIGNS = (1, -1, 1, 1, -1, 1)
_VISCOUS_DAMPING = 0.03  # Nm s/rad, on top of the motors' back-EMF
_FRICTION_LOSS = 0.068  # Nm
_CUBE_MASS_FACTOR = 1.05
_SLIPPERY = 0.9
_SUPPLY_RESISTANCE = 0.12  # ohm
_PROTECTION_TICKS = round(PROTECTION_PERIOD / PERIOD)


def nominal_calibration(name: str = "twin") -> Calibration:
    """How the twin's encoders are mounted; what `fermo calibrate so101` would find on it."""
    joints = []
    for joint, zero, sign, low, high in zip(JOINT_NAMES, _ZERO_COUNTS, _SIGNS, JOINT_LOW, JOINT_HIGH, strict=True):
        ends = sorted(zero + round(sign * angle / RADIANS_PER_COUNT) for angle in (low, high))
        low_counts, high_counts = max(ends[0], 0), min(ends[1], COUNTS_PER_TURN - 1)
        joints.append(JointCalibration(name=joint, zero=zero, sign=sign, low=low_counts, high=high_counts))
    return Calibration(name=name, joints=tuple(joints))


class So101World:
    """Physics and servos, advanced together one millisecond at a time.

    Attributes:
        servos: The firmware, ids 1 to 6; the bus reads and writes it.
        ticks: Milliseconds since the twin started; never goes back, not even on `reset`.
        supply: Open-circuit voltage of the supply all servos share [V].
    """

    def __init__(self, *, with_cube: bool = True) -> None:
        self.model = _torque_model(with_cube)
        self.data = mujoco.MjData(self.model)
        self.servos = [Servo(servo_id) for servo_id in range(1, len(JOINT_NAMES) + 1)]
        self.supply = NOMINAL_VOLTAGE
        self._with_cube = with_cube
        zeros = (zero * RADIANS_PER_COUNT for zero in _ZERO_COUNTS)
        self._mounts = list(zip(zeros, map(float, _SIGNS), strict=True))
        self._joints = len(JOINT_NAMES)
        self._tool = self.model.site(TOOL_SITE).id
        self._wrist = self.model.body("gripper").id
        self.ticks = 0
        self.reset()

    @property
    def time(self) -> float:
        """Seconds since the twin started."""
        return self.ticks * PERIOD

    def step(self, count: int) -> None:
        """Advance by `count` milliseconds."""
        data, joints = self.data, self._joints
        chain = [(servo.step, zero, sign) for servo, (zero, sign) in zip(self.servos, self._mounts, strict=True)]
        for _ in range(count):
            state = zip(chain, data.qpos[:joints].tolist(), data.qvel[:joints].tolist(), strict=True)
            data.ctrl[:] = [sign * step(zero + sign * q, sign * v) for (step, zero, sign), q, v in state]
            mujoco.mj_step(self.model, data)
            self.ticks += 1
            if self.ticks % _PROTECTION_TICKS == 0:
                self._protect()

    def _protect(self) -> None:
        voltage = self.supply - _SUPPLY_RESISTANCE * sum(abs(servo.current) for servo in self.servos)
        for servo in self.servos:
            servo.protect(voltage)

    def reset(self, arm: np.ndarray | None = None, cube: np.ndarray | None = None) -> None:
        """Put the arm and the cube somewhere, at rest; the servos keep their registers and aim where they are.

        Args:
            arm: Joint angles [rad], shape ``(6,)``; the home pose when None.
            cube: ``(x, y, yaw)`` [m, m, rad] in the base frame, on the floor; 0.2 m ahead when None.
        """
        arm = np.asarray(HOME_QPOS if arm is None else arm, dtype=float)
        cube = np.array([0.2, 0.0, 0.0]) if cube is None else np.asarray(cube, dtype=float)
        if arm.shape != (self._joints,) or cube.shape != (3,) or not np.isfinite([*arm, *cube]).all():
            raise FermoError("reset takes finite `arm` of 6 angles [rad] and `cube` as (x, y, yaw) [m, m, rad]")
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[: self._joints] = arm
        if self._with_cube:
            x, y, yaw = cube
            self.data.qpos[self._joints :] = [x, y, CUBE_HALF_SIZE, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]
        mujoco.mj_forward(self.model, self.data)
        for servo, (zero, sign), angle in zip(self.servos, self._mounts, arm.tolist(), strict=True):
            servo.place(zero + sign * angle)

    def cube_position(self) -> np.ndarray:
        """Centre of the cube [m], shape ``(3,)``."""
        return self.data.qpos[self._joints : self._joints + 3].copy()

    def cube_quaternion(self) -> np.ndarray:
        """Orientation of the cube (w, x, y, z)."""
        return self.data.qpos[self._joints + 3 : self._joints + 7].copy()

    def tool_position(self) -> np.ndarray:
        """Position of the tool frame [m], shape ``(3,)``."""
        return self.data.site_xpos[self._tool].copy()

    def wrist_position(self) -> np.ndarray:
        """Origin of the gripper body, behind the tool on its axis [m], shape ``(3,)``."""
        return self.data.xpos[self._wrist].copy()

    def truth(self) -> dict[str, Any]:
        """What only a supervisor may know; JSON-able."""
        return {
            "time": self.time,
            "qpos": self.data.qpos.tolist(),
            "qvel": self.data.qvel.tolist(),
            "arm": self.data.qpos[: self._joints].tolist(),
            "cube_position": self.cube_position().tolist() if self._with_cube else None,
            "cube_quaternion": self.cube_quaternion().tolist() if self._with_cube else None,
            "tool_position": self.tool_position().tolist(),
            "torque": self.data.ctrl.tolist(),
            "temperature": [servo.temperature for servo in self.servos],
        }


def _torque_model(with_cube: bool) -> mujoco.MjModel:
    """The scene with every position actuator replaced by a plain torque."""
    spec = so101_scene(with_cube=with_cube, timestep=PERIOD)
    for actuator in spec.actuators:
        actuator.set_to_motor()
        actuator.ctrllimited = False
        actuator.forcelimited = False
    for geom in spec.geoms:
        if geom.name == "cube":
            geom.mass *= _CUBE_MASS_FACTOR
        if geom.name in ("cube", "fixed_jaw_pad", "moving_jaw_pad"):
            geom.friction[0] *= _SLIPPERY
    model = spec.compile()
    arm = slice(0, len(JOINT_NAMES))
    model.dof_damping[arm] = _VISCOUS_DAMPING
    model.dof_frictionloss[arm] = _FRICTION_LOSS
    return model
