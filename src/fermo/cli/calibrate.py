"""``fermo calibrate``: the zeros and ranges of an arm's joints, while someone moves it by hand."""

from __future__ import annotations

import select
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from fermo.cli.parsing import parse
from fermo.errors import FermoError, unknown_name


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Torque goes off; hold the arm in its zero pose, press Enter, move every joint to both ends, press Enter.

    Attributes:
        robot: ``so101``.
        port: Serial device; `fermo find-port` finds it.
        name: Which arm: names the calibration file.
    """

    robot: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROBOT")]
    port: str
    name: str = "so101"


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(CalibrateOptions, "calibrate", arguments)
    if options.robot != "so101":
        raise unknown_name("robot", options.robot, ("so101",))
    if not sys.stdin.isatty():
        raise FermoError("fermo calibrate asks someone to move the arm: run it in a terminal")
    from fermo.assets.scenes.so101 import JOINT_NAMES
    from fermo.hardware.calibration import calibrate, save_calibration
    from fermo.hardware.clock import WallClock
    from fermo.hardware.drivers.feetech import ServoBus
    from fermo.hardware.drivers.so101 import ENCODER_SIGNS, SERVO_IDS

    bus = ServoBus(options.port, SERVO_IDS, WallClock(), reply_timeout=0.02, quiet=0.0)
    bus.open()
    try:
        bus.write_register("torque_enable", 0)
        found = calibrate(
            options.name, JOINT_NAMES, ENCODER_SIGNS, lambda: bus.read_register("present_position"), _at_zero, _moving
        )
    finally:
        bus.close()
    print(f"calibration of {options.name!r} written to {save_calibration(found)}")


def _at_zero() -> None:
    input("Hold the arm in its zero pose (every joint at the middle of its range), then press Enter: ")
    print("Now move every joint to both ends of its range; press Enter when done.")


def _moving() -> bool:
    """True until Enter is pressed; waits a little, so that the encoders are read about 50 times a second."""
    if select.select([sys.stdin], [], [], 0.02)[0]:
        sys.stdin.readline()
        return False
    return True
