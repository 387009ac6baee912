"""The servo loop: 100 goals a second on the bus, interpolated in time between the policy's targets."""

from __future__ import annotations

from collections import Counter

import numpy as np

from fermo.hardware.clock import Clock
from fermo.hardware.robot import Applied, Reading, Robot, RobotError, RobotState
from fermo.hardware.wrapped_robot import WrappedRobot

_REJECTIONS = 3  # non-finite targets in a row that latch a fault
BLEND = 0.5
"""Share of a policy period in which the goal moves from one target to the next; the rest of it is held."""

_SILENT_PERIODS = 3  # policy periods without a target after which the arm is holding


class ServoLoop:
    """Drives `robot` between the targets of a slower policy.

    A target is approached in a straight line and reached after `BLEND` of a policy period, then held: the whole period
    would be smoother but later, and policies are trained on targets that apply at once. Each tick
    writes first and reads second, so the reading proves that the goal has arrived.

    Args:
        robot: What is driven; connected by the caller.
        clock: Time.
        policy_period: Between two targets [s].
        rate_hz: Of the ticks [Hz].

    Attributes:
        latest: The newest reading, None before the first tick.
        counts: ``"ticks"``, ``"misses"``, ``"stale"``, ``"clipped"``, ``"rejected"``, ``"silent policy"``.
    """

    def __init__(self, robot: Robot, clock: Clock, policy_period: float, rate_hz: float = 100.0) -> None:
        self.robot = robot
        self.latest: Reading | None = None
        self.counts: Counter[str] = Counter()
        self.period = 1.0 / rate_hz
        self._clock = clock
        self._policy_period = policy_period
        self._from = self._to = np.zeros(robot.spec.command_size)
        self._given_at = -np.inf
        self._rejected_in_a_row = 0
        self._next_tick = clock.now()
        low = [value for signal in robot.spec.commands for value in signal.low]
        high = [value for signal in robot.spec.commands for value in signal.high]
        self._low, self._high = np.array(low), np.array(high)

    def start(self) -> None:
        """Read once and tick from now on; call it after connecting."""
        self.latest = self.robot.read()
        self._next_tick = self._clock.now() + self.period

    def arm(self) -> None:
        """Arm the robot and aim where it is."""
        self.robot.arm()
        self.start()
        assert self.latest is not None
        position = self.latest.signals["joint_position"]
        self._from = self._to = position.copy()
        self._given_at, self._rejected_in_a_row = self._clock.now(), 0

    def set_target(self, command: np.ndarray, now: float) -> Applied:
        """Take the policy's next target, ``(command_size,)``; one that is not finite is dropped whole.

        Raises:
            RobotError: The shape is wrong, or three in a row were not finite, which latches FAULT.
        """
        command = np.asarray(command, dtype=float)
        if command.shape != self._to.shape:
            raise RobotError(f"the command has shape {command.shape}, this robot takes {self._to.shape}")
        if not np.isfinite(command).all():
            self.counts["rejected"] += 1
            self._rejected_in_a_row += 1
            if self._rejected_in_a_row >= _REJECTIONS:
                self.robot.fault(f"{_REJECTIONS} commands in a row were not finite")
                raise RobotError(f"{_REJECTIONS} commands in a row were not finite")
            return Applied(command=self._to.copy(), clipped=np.ones(command.shape, dtype=bool), reason="not finite")
        self._rejected_in_a_row = 0
        inside = np.clip(command, self._low, self._high)
        self._from, self._to, self._given_at = self._goal(now), inside, now
        clipped = inside != command
        return Applied(command=inside.copy(), clipped=clipped, reason="limits" if clipped.any() else "")

    def tick(self) -> None:
        """Write the goal of this moment, then read. Raises `RobotError` when the robot faults."""
        now = self._clock.now()
        self.counts["ticks"] += 1
        if self.robot.state is RobotState.ARMED:
            self.counts["silent policy"] += now - self._given_at > _SILENT_PERIODS * self._policy_period + 1e-9
            self.counts["clipped"] += self.robot.write(self._goal(now)).reason == "limits"
        self.latest = self.robot.read()
        self.counts["stale"] += not self.latest.fresh

    def run_until(self, deadline: float) -> None:
        """Tick at absolute deadlines up to and including `deadline` [s]; ticks that were missed are skipped."""
        while self._next_tick <= deadline + 1e-9:
            self._clock.sleep_until(self._next_tick)
            self.tick()
            self._next_tick += self.period
            late = self._clock.now() - self._next_tick
            if late > 0:
                missed = int(late / self.period) + 1
                self.counts["misses"] += missed
                self._next_tick += missed * self.period
        self._clock.sleep_until(deadline)

    def _goal(self, now: float) -> np.ndarray:
        fraction = np.clip((now - self._given_at) / (BLEND * self._policy_period), 0.0, 1.0)
        return self._from + fraction * (self._to - self._from)


class ServoedRobot(WrappedRobot):
    """A robot with its servo loop in this process: whoever sleeps on this object's clock lets the servo loop work.

    Deterministic under a lockstep clock. On the wall clock prefer `fermo.hardware.servo_process.ServoProcess`, whose
    ticks no policy can delay.
    """

    def __init__(self, robot: Robot, clock: Clock, *, rate_hz: float = 100.0) -> None:
        super().__init__(robot)
        self._clock = clock
        self._stopped = False
        self.loop = ServoLoop(robot, clock, 1.0 / robot.spec.rate_hz, rate_hz)

    @property
    def counts(self) -> Counter[str]:
        """The servo loop's counts."""
        return self.loop.counts

    def now(self) -> float:
        """The clock's time [s]."""
        return self._clock.now()

    def sleep_until(self, deadline: float) -> None:
        """Run the servo loop until `deadline` [s]."""
        if self.state in (RobotState.ARMED, RobotState.HOLD):
            self.loop.run_until(deadline)
        else:
            self._clock.sleep_until(deadline)

    def connect(self) -> None:
        """See `Robot`."""
        self._robot.connect()
        self.loop.start()

    def arm(self) -> None:
        """See `Robot`."""
        self.loop.arm()
        self._stopped = False

    def read(self) -> Reading:
        """The servo loop's newest reading; a new one while the loop is not running."""
        if self.state not in (RobotState.ARMED, RobotState.HOLD) or self.loop.latest is None:
            self.loop.latest = self._robot.read()
        return self.loop.latest

    def write(self, command: np.ndarray) -> Applied:
        """Give the servo loop its next target; taken too while the robot holds for want of data."""
        if self._stopped or self.state not in (RobotState.ARMED, RobotState.HOLD):
            raise RobotError(f"cannot write: this robot is in {self.state.value}; call arm() first")
        return self.loop.set_target(command, self._clock.now())

    def stop(self) -> None:
        """See `Robot`."""
        super().stop()
        self._stopped = True
