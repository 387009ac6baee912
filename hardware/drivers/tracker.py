"""The object tracker's client: keeps the newest frame, reconnects reading only, never blocks the loop."""

from __future__ import annotations

import contextlib
import json
import select
import socket
from dataclasses import dataclass

import numpy as np

from fermo.hardware.clock import Clock
from fermo.hardware.robot import RobotError

_RETRY_PERIOD = 0.2  # between attempts to reconnect [s]


@dataclass(frozen=True, kw_only=True)
class TrackerFrame:
    """What the tracker saw.

    Attributes:
        sequence: Counts frames.
        capture_time: When it looked, on the tracker's clock [s].
        received: When the frame came here, on the driver's clock [s].
        latency: Age of the frame when it was sent [s].
        position: Centre of the cube in the base frame [m], ``(3,)``.
        heading: ``(cos 4 yaw, sin 4 yaw)``, ``(2,)``.
    """

    sequence: int
    capture_time: float
    received: float
    latency: float
    position: np.ndarray
    heading: np.ndarray


class TrackerClient:
    """Reads one JSON line a frame from ``host:port``.

    Attributes:
        newest: The last frame, None before the first.
        malformed: Lines that were not frames.
    """

    def __init__(self, host: str, port: int, clock: Clock) -> None:
        self.newest: TrackerFrame | None = None
        self.malformed = 0
        self._address = (host, port)
        self._clock = clock
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._lost_since: float | None = None
        self._retry_at = 0.0

    @property
    def name(self) -> str:
        """``host:port``."""
        return f"{self._address[0]}:{self._address[1]}"

    def connect(self, timeout: float = 2.0) -> None:
        """Connect and wait for a first frame, at most `timeout` [s]. Raises `RobotError`."""
        try:
            self._socket = socket.create_connection(self._address, timeout=timeout)
        except OSError as error:
            raise RobotError(f"no object tracker at {self.name} ({error}); start it or name another") from error
        self._socket.setblocking(False)
        self._lost_since = None
        while self.newest is None and select.select([self._socket], [], [], timeout)[0] and self._lost_since is None:
            self.poll()
        if self.newest is None:
            raise RobotError(f"the object tracker at {self.name} sent no frame within {timeout:g} s")

    def poll(self) -> None:
        """Take whatever has arrived."""
        if self._socket is None:
            self._reconnect()
            return
        try:
            while data := self._socket.recv(65536):
                self._buffer += data
            self._lose()
        except BlockingIOError:
            pass
        except OSError:
            self._lose()
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            self._accept(line)

    def silent_for(self) -> float:
        """How long the connection has been down [s], 0 while it is up."""
        return 0.0 if self._lost_since is None else self._clock.now() - self._lost_since

    def age(self) -> float:
        """Age of the newest frame since its capture [s]; infinite before the first."""
        if self.newest is None:
            return float("inf")
        return self._clock.now() - self.newest.received + self.newest.latency

    def close(self) -> None:
        """Hang up; forgets the newest frame."""
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer, self.newest, self._lost_since = None, b"", None, None

    def _accept(self, line: bytes) -> None:
        try:
            data = json.loads(line)
            frame = TrackerFrame(
                sequence=int(data["sequence"]),
                capture_time=float(data["capture_time"]),
                received=self._clock.now(),
                latency=float(data["age"]),
                position=np.array(data["position"], dtype=float).reshape(3),
                heading=np.array(data["heading"], dtype=float).reshape(2),
            )
        except (ValueError, TypeError, KeyError):
            self.malformed += 1
            return
        if np.isfinite(frame.position).all() and np.isfinite(frame.heading).all():
            self.newest = frame
        else:
            self.malformed += 1

    def _lose(self) -> None:
        if self._socket is not None:
            self._socket.close()
        self._socket, self._buffer = None, b""
        self._lost_since = self._clock.now()

    def _reconnect(self) -> None:
        now = self._clock.now()
        if now < self._retry_at:
            return
        self._retry_at = now + _RETRY_PERIOD
        with contextlib.suppress(OSError):
            self._socket = socket.create_connection(self._address, timeout=0.05)
            self._socket.setblocking(False)
            self._lost_since = None
