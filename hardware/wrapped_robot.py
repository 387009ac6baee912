"""A robot around another one: what a wrapper does not do differently, it leaves to the robot inside."""

from __future__ import annotations

import numpy as np

from fermo.hardware.robot import Applied, Reading, Robot, RobotState


class WrappedRobot(Robot):
    """Passes everything on to `robot`; see `Robot` for what each call promises."""

    def __init__(self, robot: Robot) -> None:
        self.spec = robot.spec
        self._robot = robot

    @property
    def state(self) -> RobotState:  # type: ignore[override]
        """The robot's."""
        return self._robot.state

    def connect(self) -> None:
        """See `Robot`."""
        self._robot.connect()

    def arm(self) -> None:
        """See `Robot`."""
        self._robot.arm()

    def read(self) -> Reading:
        """See `Robot`."""
        return self._robot.read()

    def write(self, command: np.ndarray) -> Applied:
        """See `Robot`."""
        return self._robot.write(command)

    def stop(self) -> None:
        """See `Robot`."""
        self._robot.stop()

    def fault(self, reason: str) -> None:
        """See `Robot`."""
        self._robot.fault(reason)

    def acknowledge(self) -> None:
        """See `Robot`."""
        self._robot.acknowledge()

    def disconnect(self) -> None:
        """See `Robot`."""
        self._robot.disconnect()
