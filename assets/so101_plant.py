"""What an SO-101 with an object tracker observes and accepts: the same signals in simulation, on a twin, on an arm."""

from __future__ import annotations

import math

from fermo.signal import PlantSpec, Signal

JOINT_LOW = (-1.9198621, -1.7453292, -1.69, -1.6580628, -2.7438472, -0.1745329)
JOINT_HIGH = (1.9198621, 1.7453292, 1.69, 1.6580627, 2.8412063, 1.7453291)
"""Joint ranges of the model [rad], servo ids 1 to 6."""

JOINT_SPEED = 4.5
"""What an unloaded STS3215 at 12 V reaches, rounded down [rad/s]; its no-load speed is about 45 rpm."""

RATE_HZ = 25.0
"""Policy rate [Hz]."""

JOINT_POSITION = Signal(
    name="joint_position", shape=(6,), unit="rad", low=JOINT_LOW, high=JOINT_HIGH, description="measured servo angles"
)
JOINT_VELOCITY = Signal.uniform(
    name="joint_velocity", shape=(6,), unit="rad/s", low=-JOINT_SPEED, high=JOINT_SPEED,
    description="measured servo speeds",
)  # fmt: skip
CUBE_POSITION = Signal.uniform(
    name="cube_position", shape=(3,), unit="m", low=-1.0, high=1.0, device="object_tracker",
    description="centre of the cube in the base frame, as the tracker last delivered it",
)  # fmt: skip
CUBE_HEADING = Signal.uniform(
    name="cube_heading", shape=(2,), unit="1", low=-math.sqrt(2), high=math.sqrt(2), device="object_tracker",
    description="(cos 4 yaw, sin 4 yaw): a cube looks the same every quarter turn",
)  # fmt: skip
TARGET_POSITION = Signal.uniform(
    name="target_position", shape=(3,), unit="m", low=-1.0, high=1.0, device="task",
    description="where the tool should go, in the base frame",
)  # fmt: skip
JOINT_TARGET = Signal(
    name="joint_target", shape=(6,), unit="rad", low=JOINT_LOW, high=JOINT_HIGH, description="servo goal angles"
)

REACH_PLANT = PlantSpec(observations=(JOINT_POSITION, TARGET_POSITION), commands=(JOINT_TARGET,), rate_hz=RATE_HZ)
"""`fermo/SO101-Reach-v0`."""

PICK_PLANT = PlantSpec(
    observations=(JOINT_POSITION, CUBE_POSITION, CUBE_HEADING), commands=(JOINT_TARGET,), rate_hz=RATE_HZ
)
"""`fermo/SO101-PickCube-v0`."""

ARM_PLANT = PlantSpec(
    observations=(JOINT_POSITION, JOINT_VELOCITY, CUBE_POSITION, CUBE_HEADING),
    commands=(JOINT_TARGET,),
    rate_hz=RATE_HZ,
)
"""Everything the arm and its tracker offer."""
