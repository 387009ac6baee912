"""The servo loop in a process of its own, so that no policy, garbage collector or plot delays the bus.

State and targets cross in shared memory; arming and the like are calls over a pipe. The servo process holds when the
policy falls silent, and brings the arm to rest when its parent is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import Counter
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from fermo.hardware.clock import WallClock
from fermo.hardware.registry import make_robot
from fermo.hardware.robot import Applied, Reading, Robot, RobotError, RobotState
from fermo.hardware.seqlock import SeqlockBlock
from fermo.hardware.servo_loop import ServoLoop

_STATES = tuple(RobotState)
_COUNTS = ("ticks", "misses", "stale", "clipped", "rejected", "silent policy")
_HEADER = 4 + len(_COUNTS)  # stamp, sequence, fresh, state, counts
_CALL_TIMEOUT = 30.0  # parking and letting go take seconds [s]


class ServoProcess(Robot):
    """Robot `name` driven by its own process; use it as any other robot, on the wall clock.

    Args:
        name: As in the registry.
        rate_hz: Of the servo loop [Hz].
        **config: Fields of the robot's config.
    """

    def __init__(self, name: str, /, *, rate_hz: float = 100.0, **config: Any) -> None:
        self.spec = make_robot(name, **config).spec
        context = multiprocessing.get_context("spawn")
        self._state_block = SeqlockBlock(context, _HEADER + self.spec.observation_size)
        self._target_block = SeqlockBlock(context, 1 + self.spec.command_size)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(name, config, rate_hz, self._state_block, self._target_block, theirs),
            daemon=True,
        )
        self._stopped = False
        self._low, self._high = (
            np.array([value for signal_ in self.spec.commands for value in getattr(signal_, side)])
            for side in ("low", "high")
        )

    @property
    def state(self) -> RobotState:  # type: ignore[override]
        """As the servo process last published it."""
        return _STATES[int(self._state_block.read()[1][3])]

    @property
    def counts(self) -> Counter[str]:
        """The servo loop's counts."""
        values = self._state_block.read()[1][4:_HEADER]
        return Counter({name: int(value) for name, value in zip(_COUNTS, values, strict=True)})

    @property
    def pid(self) -> int | None:
        """Of the servo process."""
        return self._process.pid

    def connect(self) -> None:
        """Start the process and connect there."""
        self._process.start()
        self._call("connect")

    def arm(self) -> None:
        """See `Robot`."""
        self._call("arm")
        self._stopped = False

    def read(self) -> Reading:
        """The newest published reading. Raises `RobotError` with the fault's reason."""
        _, values = self._state_block.read()
        if _STATES[int(values[3])] is RobotState.FAULT:
            raise RobotError(self._call("reason"))
        if not self._process.is_alive():
            raise RobotError("the servo process has died; the servos hold their last goal; start again")
        slices = self.spec.observation_slices()
        signals = {
            name: values[_HEADER:][part].reshape(signal_.shape)
            for (name, part), signal_ in zip(slices.items(), self.spec.observations, strict=True)
        }
        return Reading(stamp=values[0], signals=signals, sequence=int(values[1]), fresh=bool(values[2]))

    def write(self, command: np.ndarray) -> Applied:
        """Publish the next target; the servo process judges it. Taken too while the robot holds for want of data."""
        if self._stopped or self.state not in (RobotState.ARMED, RobotState.HOLD):
            raise RobotError(f"cannot write: this robot is in {self.state.value}; call arm() first")
        command = np.asarray(command, dtype=float)
        if command.shape != self._low.shape:
            raise RobotError(f"the command has shape {command.shape}, this robot takes {self._low.shape}")
        self._target_block.write(np.concatenate([[WallClock().now()], command]))
        finite = bool(np.isfinite(command).all())
        sent = np.clip(np.where(np.isfinite(command), command, 0.0), self._low, self._high)
        clipped = sent != command
        reason = "not finite" if not finite else "limits" if clipped.any() else ""
        return Applied(command=sent, clipped=clipped, reason=reason)

    def stop(self) -> None:
        """See `Robot`."""
        if self._process.is_alive():
            self._call("stop")
            self._stopped = True

    def fault(self, reason: str) -> None:
        """See `Robot`."""
        self._call("fault", reason)

    def acknowledge(self) -> None:
        """See `Robot`."""
        self._call("acknowledge")

    def disconnect(self) -> None:
        """Bring the arm to rest and end the process."""
        if self._process.is_alive():
            self._call("disconnect")
            self._call("quit")
            self._process.join(5.0)

    def _call(self, name: str, *arguments: Any) -> Any:
        try:
            self._pipe.send((name, arguments))
            if not self._pipe.poll(_CALL_TIMEOUT):
                raise RobotError(f"the servo process did not finish {name!r} within {_CALL_TIMEOUT:g} s")
            succeeded, value = self._pipe.recv()
        except (OSError, EOFError) as error:
            raise RobotError(f"the servo process has died during {name!r}") from error
        if not succeeded:
            raise RobotError(value)
        return value


class _Server:
    """The child's side."""

    def __init__(
        self, robot: Robot, rate_hz: float, state: SeqlockBlock, target: SeqlockBlock, pipe: Connection
    ) -> None:
        self._robot, self._state, self._target, self._pipe = robot, state, target, pipe
        self._clock = WallClock()
        self._loop = ServoLoop(robot, self._clock, 1.0 / robot.spec.rate_hz, rate_hz)
        self._targets_seen = 0
        self._reason = ""
        self._parent = os.getppid()
        self._running = True

    def run(self) -> None:
        """Until told to quit, or until the parent is gone."""
        while self._running:
            if os.getppid() != self._parent:
                self._robot.stop()
                self._robot.disconnect()
                return
            active = self._robot.state not in (RobotState.OFF, RobotState.FAULT)
            if self._pipe.poll(0 if active else 0.05):
                try:
                    self._answer()
                except EOFError:  # the parent closed its end without a word
                    self._robot.stop()
                    self._robot.disconnect()
                    return
                continue
            if active:
                self._cycle()

    def _cycle(self) -> None:
        seen, values = self._target.read()
        try:
            if seen != self._targets_seen:
                self._targets_seen = seen
                self._loop.set_target(values[1:], self._clock.now())
            self._loop.run_until(self._clock.now() + self._loop.period)
        except RobotError as error:
            self._reason = str(error)
            self._robot.fault(self._reason)
        self._publish()

    def _answer(self) -> None:
        name, arguments = self._pipe.recv()
        try:
            value = self._handle(name, arguments)
            self._publish()
            self._pipe.send((True, value))
        except Exception as error:
            self._publish()
            self._pipe.send((False, str(error)))

    def _handle(self, name: str, arguments: tuple[Any, ...]) -> Any:
        if name == "quit":
            self._running = False
        elif name == "reason":
            return self._reason
        elif name == "arm":
            self._targets_seen = self._target.read()[0]  # what was wanted before does not count
            self._loop.arm()
        elif name == "connect":
            self._robot.connect()
            self._loop.start()
        else:
            if name == "fault":
                self._reason = arguments[0]
            getattr(self._robot, name)(*arguments)
        return None

    def _publish(self) -> None:
        reading = self._loop.latest
        size = self._robot.spec.observation_size
        flat = np.zeros(size)
        if reading is not None:
            flat = np.concatenate([reading.signals[signal_.name].ravel() for signal_ in self._robot.spec.observations])
        head = (0.0, 0, False) if reading is None else (reading.stamp, reading.sequence, reading.fresh)
        counts = [self._loop.counts[name] for name in _COUNTS]
        self._state.write(np.concatenate([[*head, _STATES.index(self._robot.state), *counts], flat]))


def _serve(
    name: str, config: dict[str, Any], rate_hz: float, state: SeqlockBlock, target: SeqlockBlock, pipe: Connection
) -> None:
    """Entry point of the servo process."""
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it will tell us
    torch.set_num_threads(1)
    _Server(make_robot(name, **config), rate_hz, state, target, pipe).run()
