"""A bus of Feetech servos through the vendor's SDK, with replies matched to their requests.

The protocol has no sequence numbers: a reply that comes late carries a valid id and checksum, and is taken for the
answer to the next request. So consecutive reads here ask for windows of different lengths, which the SDK checks in
every reply, and a window whose answer did not come is not asked for again until no answer can still be on its way.
"""

from __future__ import annotations

import select
import termios
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scservo_sdk import COMM_SUCCESS, GroupSyncRead, GroupSyncWrite, PortHandler, sms_sts

from fermo.hardware.clock import Clock
from fermo.hardware.robot import RobotError
from fermo.hardware.sts3215 import BAUD_RATE, REGISTERS, decode_value, describe_status, encode_value

WINDOWS = ((56, 4), (40, 20), (56, 6), (56, 8), (40, 26), (56, 10), (56, 11), (56, 15))
"""(address, bytes) of the cyclic reads: all hold position and speed, all lengths differ, two read back settings."""

_SETUP_TIMEOUT, _SETUP_TRIES = 0.05, 3  # of single questions outside the loop [s]
_QUARANTINE = 0.3  # longer than a USB adapter or a busy host holds a reply back [s]


class ServoPort(PortHandler):
    """The SDK's port with a reply timeout of our own, waiting for bytes instead of spinning.

    Args:
        name: Serial device.
        reply_timeout: Longest wait for a reply beyond its own length on the wire [s].
    """

    def __init__(self, name: str, reply_timeout: float) -> None:
        super().__init__(name)
        self.reply_timeout = reply_timeout

    def setPacketTimeout(self, packet_length: int) -> None:
        """Start the reply's timer; called by the SDK."""
        self.setPacketTimeoutMillis(1000 * self.reply_timeout + self.tx_time_per_byte * packet_length)

    def readPort(self, length: int) -> bytes:
        """What has arrived, up to `length` bytes, after waiting at most a millisecond; called by the SDK."""
        assert self.ser is not None
        select.select([self.ser], [], [], 0.001)
        return self.ser.read(length)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One cyclic read of all servos.

    Attributes:
        registers: Registers inside the window that was read, by name, each ``(servos,)`` int64.
        status: Status byte of every reply, ``(servos,)``.
    """

    registers: dict[str, np.ndarray]
    status: np.ndarray


class ServoBus:
    """Servos `ids` on serial device `name`.

    Args:
        name: Serial device.
        ids: Servo ids, in the order of every array here.
        clock: Time for the silence after a timeout.
        reply_timeout: As in `ServoPort` [s].
        quiet: Silence after a missing reply, in which late bytes are thrown away [s].

    Attributes:
        counts: How often ``"timeout"`` (missing or spoilt reply), ``"silent"`` (a cycle spent draining) happened.
    """

    def __init__(self, name: str, ids: Sequence[int], clock: Clock, *, reply_timeout: float, quiet: float) -> None:
        self.name = name
        self.ids = tuple(ids)
        self.counts: Counter[str] = Counter()
        self._clock = clock
        self._quiet = quiet
        self._port = ServoPort(name, reply_timeout)
        self._packets = sms_sts(self._port)
        self._reads = [self._sync_read(*window) for window in WINDOWS]
        self._usable_from = [-np.inf] * len(WINDOWS)
        self._turn = 0
        self._quiet_until = -np.inf

    def open(self) -> None:
        """Open the serial device at 1 Mbps. Raises `RobotError`."""
        try:
            self._port.baudrate = BAUD_RATE
            self._port.openPort()
        except (OSError, ValueError, termios.error) as error:
            raise RobotError(f"cannot open {self.name!r} ({error}); `fermo find-port` lists the ports") from error

    def close(self) -> None:
        """Close the serial device, whatever state it is in."""
        if self._port.ser is not None:
            try:
                self._port.closePort()
            except (OSError, termios.error):
                self.counts["close failed"] += 1

    def ping(self, servo_id: int) -> int | None:
        """Model number of a servo, None when it does not answer."""
        return self._ask(self._packets.ping, servo_id)

    def read_register(self, name: str) -> np.ndarray:
        """One register of every servo, one at a time, ``(servos,)``; for set-up, not for the loop."""
        register = REGISTERS[name]
        values = []
        for servo_id in self.ids:
            data = self._ask(self._packets.readTxRx, servo_id, register.address, register.size)
            if data is None:
                raise RobotError(f"servo {servo_id} on {self.name} did not answer when asked for {name}")
            values.append(decode_value(register, bytes(data)))
        return np.array(values)

    def _ask(self, call: Callable[..., tuple[Any, int, int]], *arguments: int) -> Any:
        """One servo's answer, asked for up to three times with time for late bytes to pass; None without one."""
        loop_timeout, self._port.reply_timeout = self._port.reply_timeout, max(self._port.reply_timeout, _SETUP_TIMEOUT)
        try:
            for _ in range(_SETUP_TRIES):
                value, result, _ = self._guard(call, *arguments)
                if result == COMM_SUCCESS:
                    return value
                self.counts["asked again"] += 1
                self._clock.sleep_until(self._clock.now() + _SETUP_TIMEOUT)
            return None
        finally:
            self._port.reply_timeout = loop_timeout

    def write_register(self, name: str, values: np.ndarray | int) -> None:
        """Set one register of every servo and check that each took it. Raises `RobotError`."""
        wanted = np.broadcast_to(values, len(self.ids))
        self.sync_write(name, wanted)
        found = self.read_register(name)
        for servo_id, expected, value in zip(self.ids, wanted, found, strict=True):
            if expected != value:
                raise RobotError(f"servo {servo_id} did not take {name} = {expected}: it reads {value}")

    def sync_write(self, name: str, values: np.ndarray) -> None:
        """Set one register of all servos in a single frame that none of them answers."""
        register = REGISTERS[name]
        group = GroupSyncWrite(self._packets, register.address, register.size)
        for servo_id, value in zip(self.ids, values, strict=True):
            group.addParam(servo_id, list(encode_value(register, int(value))))
        if self._guard(group.txPacket) != COMM_SUCCESS:
            raise RobotError(f"could not send {name} on {self.name}")

    def poll(self) -> Snapshot | None:
        """The next cyclic read; None while silent after a missing reply, and when this one goes missing."""
        now = self._clock.now()
        if now < self._quiet_until - 1e-9:
            self.counts["silent"] += 1
            self._guard(self._port.clearPort)
            return None
        turn = self._next_turn(now)
        if turn is None:
            return None
        group = self._reads[turn]
        result = self._guard(group.txRxPacket)
        # The SDK keeps the previous data of a group that got no reply, and returns the last servo's result only.
        if result != COMM_SUCCESS or not group.last_result:
            self.counts["timeout"] += 1
            self._usable_from[turn] = now + _QUARANTINE
            self._quiet_until = now + self._quiet
            return None
        return self._decode(group, *WINDOWS[turn])

    def _next_turn(self, now: float) -> int | None:
        for _ in WINDOWS:
            self._turn = (self._turn + 1) % len(WINDOWS)
            if now >= self._usable_from[self._turn]:
                return self._turn
        return None

    def _decode(self, group: GroupSyncRead, address: int, size: int) -> Snapshot:
        replies = np.array([group.data_dict[servo_id] for servo_id in self.ids], dtype=np.int64)  # status byte first
        registers = {}
        for name, register in REGISTERS.items():
            column = register.address - address + 1
            if column < 1 or column + register.size > size + 1:
                continue
            words = replies[:, column] if register.size == 1 else replies[:, column] | replies[:, column + 1] << 8
            if register.sign_bit is not None:
                sign = 1 << register.sign_bit
                words = np.where(words & sign, -(words & ~sign), words)
            registers[name] = words
        return Snapshot(registers=registers, status=replies[:, 0])

    def _sync_read(self, address: int, size: int) -> GroupSyncRead:
        group = GroupSyncRead(self._packets, address, size)
        for servo_id in self.ids:
            group.addParam(servo_id)
        return group

    def _guard(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Run an SDK call, turning a vanished device into one line."""
        try:
            return call(*arguments)
        except (OSError, ValueError, TypeError, termios.error) as error:
            self._port.is_using = False
            raise RobotError(f"serial device {self.name} is gone ({error}); check the cable, then reconnect") from error


def explain_status(ids: Sequence[int], status: np.ndarray) -> str:
    """Which servos report what, for example ``"servo 2: overload"``; empty when all is well."""
    return "; ".join(f"servo {i}: {describe_status(int(s))}" for i, s in zip(ids, status, strict=True) if s)
