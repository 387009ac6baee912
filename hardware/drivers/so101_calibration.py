"""Calibrate an SO-101: torque off, someone moves it, the file is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fermo.assets.scenes.so101 import JOINT_NAMES
from fermo.hardware.calibration import calibrate, save_calibration
from fermo.hardware.clock import WallClock
from fermo.hardware.drivers.feetech import ServoBus
from fermo.hardware.drivers.so101 import ENCODER_SIGNS, SERVO_IDS


def calibrate_so101(port: str, name: str, at_zero: Callable[[], None], moving: Callable[[], bool]) -> Path:
    """Find zeros and ranges of the arm on `port`, and write them as arm `name`; returns the file.

    Torque is switched off and any offset stored in the servos is cleared first.

    Args:
        port: Serial device.
        name: Name of the arm.
        at_zero: Returns once the arm is held in its zero pose: everything straight, gripper closed to angle 0.
        moving: Called before each sample while someone moves every joint to both ends; False ends it.

    Raises:
        FermoError: A servo did not answer, or a joint was hardly moved.
    """
    bus = ServoBus(port, SERVO_IDS, WallClock(), reply_timeout=0.05, quiet=0.0)
    bus.open()
    try:
        bus.write_register("torque_enable", 0)
        bus.write_register("lock", 0)
        bus.write_register("homing_offset", 0)
        bus.write_register("lock", 1)
        found = calibrate(
            name, JOINT_NAMES, ENCODER_SIGNS, lambda: bus.read_register("present_position"), at_zero, moving
        )
    finally:
        bus.close()
    return save_calibration(found)
