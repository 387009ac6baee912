"""The robot contract: what a driver offers to the real-time loop, and in which order things may happen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType

import numpy as np

from fermo.errors import FermoError
from fermo.signal import PlantSpec


class RobotState(Enum):
    """Life of a robot. FAULT latches: only `Robot.acknowledge` leaves it, and nothing re-arms by itself."""

    OFF = "off"
    CONNECTED = "connected"
    ARMED = "armed"
    HOLD = "hold"
    FAULT = "fault"


class RobotError(FermoError):
    """The robot or its bus misbehaved, or was asked for something its state does not allow."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One look at a device.

    Attributes:
        stamp: When the values were captured, seconds on the injected clock.
        signals: Observation name to value, float64, of the declared shape and unit.
        sequence: Counts successful reads; a repeated number is a repeated reading.
        fresh: False when the bus gave nothing new and these are the previous values.
        health: Device flags and slow quantities, for example temperature [degC] and voltage [V].
    """

    stamp: float
    signals: dict[str, np.ndarray]
    sequence: int
    fresh: bool = True
    health: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What `Robot.write` really sent.

    Attributes:
        command: The values on the wire, in SI units, shape ``(command_size,)``.
        clipped: Which elements the limits changed, shape ``(command_size,)`` bool.
        reason: Why, empty when nothing was changed.
    """

    command: np.ndarray
    clipped: np.ndarray
    reason: str = ""


class Robot(ABC):
    """A device or a bundle of devices, used as a context manager.

    ``with robot:`` connects and on leaving stops and disconnects, whatever happened. Safety limits are on by default.

    Attributes:
        spec: Observations, commands and rate; readable while disconnected.
        state: Where in its life the robot is.
    """

    spec: PlantSpec
    state: RobotState = RobotState.OFF

    @abstractmethod
    def connect(self) -> None:
        """Open the wire and check that every device answers; leaves torque off. Raises `RobotError`."""

    @abstractmethod
    def arm(self) -> None:
        """Switch torque on, with the goal set to the measured pose; from CONNECTED or HOLD, else `RobotError`."""

    @abstractmethod
    def read(self) -> Reading:
        """Read every observation. Raises `RobotError` when the device has been silent too long."""

    @abstractmethod
    def write(self, command: np.ndarray) -> Applied:
        """Command the robot, shape ``(command_size,)``, SI units; limits apply. Raises `RobotError` unless armed."""

    @abstractmethod
    def stop(self) -> None:
        """Hold the present pose until `arm`; safe to call at any time, any number of times."""

    @abstractmethod
    def fault(self, reason: str) -> None:
        """Hold the present pose and latch FAULT: the stop button, and the loop's own verdicts."""

    @abstractmethod
    def acknowledge(self) -> None:
        """Leave FAULT for CONNECTED, torque off, once the cause is gone."""

    @abstractmethod
    def disconnect(self) -> None:
        """Torque off and close the wire; safe to call at any time."""

    def __enter__(self) -> Robot:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            self.disconnect()
