"""The supervisor's end of a twin, and the context manager that starts one."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fermo.hardware.calibration import Calibration
from fermo.hardware.clock import Clock, LockstepClock, WallClock
from fermo.hardware.robot import RobotError


class Supervisor:
    """Line-JSON client of a twin's supervisor port.

    Args:
        port: TCP port on loopback.
        timeout: Longest wait for an answer [s].
    """

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._file = self._socket.makefile("rb")

    def call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Ask for `operation`. Raises `RobotError` when the twin refuses or is gone."""
        try:
            self._socket.sendall(json.dumps({"op": operation, **arguments}).encode() + b"\n")
            line = self._file.readline()
        except OSError as error:
            raise RobotError(f"the twin's supervisor port failed during {operation!r}: {error}") from error
        if not line:
            raise RobotError(f"the twin ended during {operation!r}")
        answer = json.loads(line)
        if "error" in answer:
            raise RobotError(f"twin: {answer['error']}")
        return answer

    def step(self, seconds: float) -> float:
        """Advance a lockstep twin; returns its new time [s]."""
        return self.call("step", seconds=seconds)["time"]

    def reset(self, *, cube: ArrayLike | None = None, arm: ArrayLike | None = None) -> dict[str, Any]:
        """Place cube ``(x, y, yaw)`` [m, m, rad] and arm [rad], at rest; returns the truth."""
        given = {"cube": cube, "arm": arm}
        return self.call("reset", **{k: np.asarray(v, float).tolist() for k, v in given.items() if v is not None})

    def truth(self) -> dict[str, Any]:
        """Simulator state: time, qpos, cube and tool poses, torques."""
        return self.call("truth")

    def fault(self, kind: str, **arguments: Any) -> None:
        """Cause a fault; see `fermo.hardware.twins.faults`."""
        self.call("fault", kind=kind, **arguments)

    def registers(self, *names: str) -> dict[str, list[int]]:
        """Servo registers by name, one value a servo."""
        return self.call("registers", names=list(names))

    def record(self, rate: float) -> None:
        """Log qpos at `rate` [Hz] from now on, for video; 0 stops."""
        self.call("record", rate=rate)

    def recorded(self) -> tuple[np.ndarray, np.ndarray]:
        """Times ``(T,)`` [s] and qpos ``(T, nq)`` logged since the last call."""
        answer = self.call("recorded")
        return np.array(answer["time"]), np.array(answer["qpos"])

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


@dataclass(frozen=True, kw_only=True)
class Twin:
    """A running twin.

    Attributes:
        port: Serial device of the servo bus.
        tracker_port: TCP port of the object tracker.
        supervisor: Places things, tells the truth, breaks things.
        calibration: How its encoders are mounted.
        lockstep: Whether its time is stepped.
        differences: How it departs from the training simulator, in words.
        pid: Process id.
    """

    port: str
    tracker_port: int
    supervisor: Supervisor
    calibration: Calibration
    lockstep: bool
    differences: tuple[str, ...]
    pid: int

    def clock(self) -> Clock:
        """The clock a driver of this twin must use."""
        return LockstepClock(self.supervisor.step, self.supervisor.truth()["time"]) if self.lockstep else WallClock()


@contextlib.contextmanager
def spawn_twin(robot: str = "so101", *, lockstep: bool = False, seed: int = 0) -> Iterator[Twin]:
    """Start a twin in its own process and end it on leaving.

    Raises:
        RobotError: It did not announce itself within a minute.
    """
    command = [sys.executable, "-m", "fermo.hardware.twins", robot, "--seed", str(seed)]
    process = subprocess.Popen(
        command + (["--lockstep"] if lockstep else []), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        ready, _, _ = select.select([process.stdout], [], [], 60.0)
        line = process.stdout.readline() if ready else ""
        if not line:
            raise RobotError(f"the twin of {robot!r} did not start; run `{' '.join(command[1:])}` to see why")
        announced = json.loads(line)
        supervisor = Supervisor(announced["supervisor_port"])
        try:
            yield Twin(
                port=announced["port"],
                tracker_port=announced["tracker_port"],
                supervisor=supervisor,
                calibration=Calibration.from_json(announced["calibration"]),
                lockstep=announced["lockstep"],
                differences=tuple(announced["differences"]),
                pid=announced["pid"],
            )
        finally:
            supervisor.close()
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
