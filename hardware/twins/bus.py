"""The servo bus of a twin: bytes in, replies out, and the things that go wrong on a wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fermo.hardware.sts3215 import (
    ACTION,
    BROADCAST,
    MEMORY_SIZE,
    PING,
    READ,
    REG_WRITE,
    SYNC_READ,
    SYNC_WRITE,
    WRITE,
    Frame,
    FrameParser,
    encode_frame,
    wire_time,
)
from fermo.hardware.twins.servo import Servo


@dataclass(frozen=True)
class Reply:
    """Bytes for the host, and how long after the request they leave [s]."""

    delay: float
    data: bytes


@dataclass
class WireFaults:
    """What is wrong with the wire now; counters run down to zero as replies pass.

    Attributes:
        drop: Requests that will get no reply.
        delay: Requests whose reply comes late.
        delay_seconds: By how much [s].
        hold_back: Requests whose reply leaves only together with the next one, as from a stalled USB adapter.
        corrupt: Requests whose reply has a byte flipped.
        loss: Probability that a reply is dropped, for ever.
        unplugged: Nothing passes in either direction.
    """

    drop: int = 0
    delay: int = 0
    delay_seconds: float = 0.0
    hold_back: int = 0
    corrupt: int = 0
    loss: float = 0.0
    unplugged: bool = False


class Bus:
    """Parses requests, lets the servos answer, and spoils the replies as `faults` says.

    Args:
        servos: The devices, with ids from 1.
        timed: Replies take the time their bytes occupy the wire, plus each servo's return delay.
        seed: Of the faults that are drawn at random.
    """

    def __init__(self, servos: Sequence[Servo], *, timed: bool, seed: int = 0) -> None:
        self.servos = servos
        self.faults = WireFaults()
        self.silent: set[int] = set()
        self.requests = 0
        self._timed = timed
        self._parser = FrameParser()
        self._pending: dict[int, tuple[int, bytes]] = {}
        self._held = b""
        self._random = np.random.default_rng(seed)

    def receive(self, data: bytes) -> list[Reply]:
        """Handle what the host sent; returns the replies in order."""
        if self.faults.unplugged:
            self._parser.reset()
            return []
        replies = []
        for frame in self._parser.feed(data):
            self.requests += 1
            answer = self._handle(frame)
            if answer:
                replies += self._spoil(answer, len(frame.parameters) + 6)
        return replies

    def _spoil(self, answer: bytes, request_size: int) -> list[Reply]:
        faults = self.faults
        delay = wire_time(request_size + len(answer)) + self._return_delay() if self._timed else 0.0
        if faults.drop > 0:
            faults.drop -= 1
            return []
        if faults.loss > 0 and self._random.random() < faults.loss:
            return []
        if faults.hold_back > 0:
            faults.hold_back -= 1
            self._held += answer
            return []
        answer, self._held = self._held + answer, b""
        if faults.delay > 0:
            faults.delay -= 1
            delay += faults.delay_seconds
        if faults.corrupt > 0:
            faults.corrupt -= 1
            spoiled = bytearray(answer)
            spoiled[len(spoiled) // 2] ^= 0x55
            answer = bytes(spoiled)
        return [Reply(delay, answer)]

    def _return_delay(self) -> float:
        return 2e-6 * self.servos[0].value("return_delay")

    def _index(self, servo_id: int) -> int | None:
        """The servo that answers to `servo_id`; None when it is absent or silent."""
        index = servo_id - 1
        return index if 0 <= index < len(self.servos) and servo_id not in self.silent else None

    def _handle(self, frame: Frame) -> bytes:
        parameters = frame.parameters
        if frame.code == SYNC_READ and len(parameters) >= 2:
            address, size, *ids = parameters
            return b"".join(self._read(servo_id, address, size) for servo_id in ids)
        if frame.code == SYNC_WRITE and len(parameters) >= 2:
            self._sync_write(parameters)
            return b""
        if frame.code == ACTION:
            return self._action(frame.id)
        if frame.id == BROADCAST:
            if frame.code == WRITE and parameters:
                for servo_id in range(1, len(self.servos) + 1):
                    self._write(servo_id, parameters[0], parameters[1:])
            return b""
        return self._handle_one(frame)

    def _handle_one(self, frame: Frame) -> bytes:
        if self._index(frame.id) is None:
            return b""
        parameters = frame.parameters
        if frame.code == PING:
            return self._status_reply(frame.id)
        if frame.code == READ and len(parameters) == 2:
            return self._read(frame.id, parameters[0], parameters[1])
        if frame.code == WRITE and parameters:
            self._write(frame.id, parameters[0], parameters[1:])
            return self._status_reply(frame.id)
        if frame.code == REG_WRITE and parameters:
            self._pending[frame.id] = (parameters[0], parameters[1:])
            return self._status_reply(frame.id)
        return b""

    def _status_reply(self, servo_id: int, data: bytes = b"") -> bytes:
        return encode_frame(Frame(servo_id, self.servos[servo_id - 1].status, data))

    def _read(self, servo_id: int, address: int, size: int) -> bytes:
        index = self._index(servo_id)
        if index is None or address + size > MEMORY_SIZE:
            return b""
        return self._status_reply(servo_id, self.servos[index].read(address, size))

    def _write(self, servo_id: int, address: int, data: bytes) -> None:
        index = self._index(servo_id)
        if index is not None and address + len(data) <= MEMORY_SIZE:
            self.servos[index].write(address, data)

    def _sync_write(self, parameters: bytes) -> None:
        address, size = parameters[0], parameters[1]
        for start in range(2, len(parameters) - size, size + 1):
            self._write(parameters[start], address, parameters[start + 1 : start + 1 + size])

    def _action(self, servo_id: int) -> bytes:
        for pending in sorted(self._pending if servo_id == BROADCAST else self._pending.keys() & {servo_id}):
            self._write(pending, *self._pending.pop(pending))
        return b"" if servo_id == BROADCAST or self._index(servo_id) is None else self._status_reply(servo_id)
