"""The twin as a process: a pty for the bus, a socket for the tracker, a socket for the supervisor.

The driver sees only the first two, as it would on an arm; the third places things, tells the truth and breaks things,
for tests and for scoring.
"""

from __future__ import annotations

import heapq
import json
import os
import select
import time
import tty
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from fermo.errors import FermoError, unknown_name
from fermo.hardware.twins.bus import Bus
from fermo.hardware.twins.faults import FaultPanel
from fermo.hardware.twins.lines import LineServer
from fermo.hardware.twins.servo import PERIOD
from fermo.hardware.twins.so101 import TWIN_DIFFERENCES, So101World, nominal_calibration
from fermo.hardware.twins.tracker import TrackerFeed

_WAKE_PERIOD = 0.002  # how often physics catches up with the wall clock when nobody asks anything
_MAX_BACKLOG = 0.05  # further behind than this, the twin's clock gives up the difference
_WATCH_PERIOD = 0.25  # how often the parent is looked for


class TwinProcess:
    """Serves one SO-101 until the parent process is gone or the supervisor says quit.

    Args:
        lockstep: Time passes only in the supervisor's ``step``; replies are immediate. Otherwise it follows the wall.
        seed: Of the tracker's noise and of random faults.
    """

    def __init__(self, *, lockstep: bool, seed: int = 0) -> None:
        self._lockstep = lockstep
        self._world = So101World()
        self._bus = Bus(self._world.servos, timed=not lockstep, seed=seed)
        self._tracker = TrackerFeed(self._world, seed=seed)
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self._frames = LineServer()
        self._supervisor = LineServer()
        self._outbox: list[tuple[float, int, bytes]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = 0
        self._faults = FaultPanel(self._world, self._bus, self._later, self._close_port)
        self._record_period, self._next_record = 0.0, 0.0
        self._recorded: list[tuple[float, list[float]]] = []
        self._origin = time.monotonic()
        self._slipped = 0.0
        self._running = True
        self._parent = os.getppid()
        self._operations: dict[str, Callable[..., dict[str, Any]]] = {
            "step": self._op_step, "reset": self._op_reset, "truth": self._op_truth, "fault": self._op_fault,
            "record": self._op_record, "recorded": self._op_recorded, "registers": self._op_registers,
            "quit": self._op_quit,
        }  # fmt: skip

    def announce(self) -> dict[str, Any]:
        """What a client needs to know, printed as one JSON line."""
        return {
            "robot": "so101",
            "port": os.ttyname(self._slave),
            "tracker_port": self._frames.port,
            "supervisor_port": self._supervisor.port,
            "lockstep": self._lockstep,
            "pid": os.getpid(),
            "calibration": nominal_calibration().to_json(),
            "differences": list(TWIN_DIFFERENCES),
        }

    def serve(self) -> None:
        """Run until told to stop or orphaned."""
        watch = time.monotonic()
        while self._running:
            ready = self._wait()
            if not self._lockstep:
                self._follow_wall_clock()
            self._serve_bus()
            self._send_due()
            self._supervisor.serve(ready)
            for client, line in self._supervisor.lines():
                self._supervisor.send(client, json.dumps(self._answer(line)))
            if self._frames.serve(ready):
                self._frames.broadcast(json.dumps(self._tracker.latest(self._world.time)))
            if time.monotonic() - watch > _WATCH_PERIOD:
                watch = time.monotonic()
                self._running &= os.getppid() == self._parent
        self._frames.close()
        self._supervisor.close()
        self._close_port()

    def _wait(self) -> list[Any]:
        """Sleep until somebody asks something or something is due; returns what is readable."""
        timeout = _WATCH_PERIOD if self._lockstep else _WAKE_PERIOD
        if self._outbox and not self._lockstep:
            timeout = max(0.0, min(timeout, self._outbox[0][0] - self._now()))
        ports = [self._master] if self._master >= 0 else []
        return select.select([*ports, *self._supervisor.sockets(), *self._frames.sockets()], [], [], timeout)[0]

    def _now(self) -> float:
        return self._world.time if self._lockstep else time.monotonic() - self._origin

    def _follow_wall_clock(self) -> None:
        behind = self._now() - self._world.time
        if behind > _MAX_BACKLOG:
            self._slipped += behind - _MAX_BACKLOG
            self._origin += behind - _MAX_BACKLOG
            behind = _MAX_BACKLOG
        self._advance(int(behind / PERIOD))

    def _advance(self, ticks: int) -> None:
        """Physics, stopping wherever the tracker or the recorder has something to do."""
        end = self._world.ticks + ticks
        while self._world.ticks < end:
            self._world.step(min(end - self._world.ticks, self._tracker.ticks_to_next(self._world.ticks)))
            now = self._world.time
            frame = self._tracker.update(self._world.ticks)
            if frame is not None:
                self._frames.broadcast(json.dumps(frame))
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
            if self._record_period > 0 and now >= self._next_record:
                self._next_record += self._record_period
                self._recorded.append((now, self._world.data.qpos.tolist()))

    def _serve_bus(self) -> None:
        if self._master < 0:
            return
        with suppress(BlockingIOError):
            for reply in self._bus.receive(os.read(self._master, 4096)):
                self._order += 1
                heapq.heappush(self._outbox, (self._now() + reply.delay, self._order, reply.data))

    def _send_due(self) -> None:
        while self._outbox and self._outbox[0][0] <= self._now():
            data = heapq.heappop(self._outbox)[2]
            if self._master >= 0 and not self._bus.faults.unplugged:
                with suppress(BlockingIOError):
                    os.write(self._master, data)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._order += 1
        heapq.heappush(self._timers, (self._world.time + seconds, self._order, action))

    def _close_port(self) -> None:
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1

    def _answer(self, line: str) -> dict[str, Any]:
        try:
            request = json.loads(line)
            operation = request.pop("op")
            if operation not in self._operations:
                raise unknown_name("supervisor operation", operation, self._operations)
            return self._operations[operation](**request)
        except (FermoError, ValueError, TypeError, KeyError, AttributeError) as error:
            return {"error": f"{error}"}

    def _op_step(self, seconds: float) -> dict[str, Any]:
        if not self._lockstep:
            raise FermoError("this twin follows the wall clock; start it with --lockstep to step it")
        self._serve_bus()
        self._send_due()
        self._advance(round((self._world.time + seconds) / PERIOD) - self._world.ticks)
        self._send_due()
        return {"time": self._world.time}

    def _op_reset(self, arm: list[float] | None = None, cube: list[float] | None = None) -> dict[str, Any]:
        self._world.reset(None if arm is None else np.asarray(arm), None if cube is None else np.asarray(cube))
        self._tracker.reset(self._world.ticks)
        self._frames.broadcast(json.dumps(self._tracker.latest(self._world.time)))
        return self._op_truth()

    def _op_truth(self) -> dict[str, Any]:
        return {**self._world.truth(), "slipped": self._slipped, "bus_requests": self._bus.requests}

    def _op_fault(self, kind: str, **arguments: object) -> dict[str, Any]:
        self._faults.apply(kind, **arguments)
        return {"fault": kind}

    def _op_record(self, rate: float) -> dict[str, Any]:
        self._record_period = 1.0 / rate if rate > 0 else 0.0
        self._next_record, self._recorded = self._world.time, []
        return {"rate": rate}

    def _op_recorded(self) -> dict[str, Any]:
        times, poses = [time_ for time_, _ in self._recorded], [pose for _, pose in self._recorded]
        self._recorded = []
        return {"time": times, "qpos": poses}

    def _op_registers(self, names: list[str]) -> dict[str, Any]:
        for servo in self._world.servos:
            servo.read(0, 128)  # bring the measured ones up to date
        return {name: [servo.value(name) for servo in self._world.servos] for name in names}

    def _op_quit(self) -> dict[str, Any]:
        self._running = False
        return {"quit": True}
