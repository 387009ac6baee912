"""The Feetech STS3215 servo's wire protocol: frames, registers, units; shared by the twin and the driver.

A request is ``FF FF id length instruction parameters checksum``, a reply has its status in the place of the
instruction; ``length`` counts the parameters plus two and the checksum is the inverted low byte of the sum of all after
the header. Words are little endian; signed ones carry their sign in a bit of its own (sign and magnitude).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

HEADER = b"\xff\xff"
BROADCAST = 0xFE
MODEL_NUMBER = 777
BAUD_RATE = 1_000_000
COUNTS_PER_TURN = 4096
RADIANS_PER_COUNT = 2 * math.pi / COUNTS_PER_TURN
MEMORY_SIZE = 128
EEPROM_END = 40
"""Addresses below survive without power, if they were written while register ``lock`` was 0."""

PING, READ, WRITE, REG_WRITE, ACTION, SYNC_READ, SYNC_WRITE = 0x01, 0x02, 0x03, 0x04, 0x05, 0x82, 0x83

STATUS_VOLTAGE, STATUS_ENCODER, STATUS_TEMPERATURE, STATUS_CURRENT, STATUS_OVERLOAD = 1, 2, 4, 8, 32
STATUS_NAMES = {
    STATUS_VOLTAGE: "voltage out of range",
    STATUS_ENCODER: "encoder fault",
    STATUS_TEMPERATURE: "too hot",
    STATUS_CURRENT: "too much current",
    STATUS_OVERLOAD: "overload",
}


@dataclass(frozen=True, kw_only=True)
class Register:
    """One entry of the servo's memory.

    Attributes:
        address: First byte.
        size: Bytes, 1 or 2.
        sign_bit: Bit that holds the sign, None for an unsigned register.
        default: Factory value.
        writable: Whether the host may write it.
    """

    address: int
    size: int = 1
    sign_bit: int | None = None
    default: int = 0
    writable: bool = True


REGISTERS: dict[str, Register] = {
    "firmware_major": Register(address=0, default=3, writable=False),
    "firmware_minor": Register(address=1, default=10, writable=False),
    "model_number": Register(address=3, size=2, default=MODEL_NUMBER, writable=False),
    "id": Register(address=5, default=1),
    "baud_rate": Register(address=6),
    "return_delay": Register(address=7),
    "min_position_limit": Register(address=9, size=2),
    "max_position_limit": Register(address=11, size=2, default=COUNTS_PER_TURN - 1),
    "max_temperature": Register(address=13, default=70),
    "max_voltage": Register(address=14, default=140),
    "min_voltage": Register(address=15, default=60),
    "max_torque": Register(address=16, size=2, default=1000),
    "p_gain": Register(address=21, default=32),
    "d_gain": Register(address=22, default=32),
    "i_gain": Register(address=23),
    "cw_dead_zone": Register(address=26, default=1),
    "ccw_dead_zone": Register(address=27, default=1),
    "protection_current": Register(address=28, size=2, default=500),
    "homing_offset": Register(address=31, size=2, sign_bit=11),
    "mode": Register(address=33),
    "protective_torque": Register(address=34, default=20),
    "protection_time": Register(address=35, default=200),
    "overload_torque": Register(address=36, default=80),
    "over_current_time": Register(address=38, default=200),
    "torque_enable": Register(address=40),
    "acceleration": Register(address=41),
    "goal_position": Register(address=42, size=2, sign_bit=15),
    "goal_time": Register(address=44, size=2),
    "goal_speed": Register(address=46, size=2, sign_bit=15),
    "torque_limit": Register(address=48, size=2, default=1000),
    "lock": Register(address=55, default=1),
    "present_position": Register(address=56, size=2, sign_bit=15, writable=False),
    "present_speed": Register(address=58, size=2, sign_bit=15, writable=False),
    "present_load": Register(address=60, size=2, sign_bit=10, writable=False),
    "present_voltage": Register(address=62, writable=False),
    "present_temperature": Register(address=63, writable=False),
    "status": Register(address=65, writable=False),
    "moving": Register(address=66, writable=False),
    "present_current": Register(address=69, size=2, sign_bit=15, writable=False),
}
"""Every register the twin models, by name."""


@dataclass(frozen=True)
class Frame:
    """A request, or a reply, whose `code` is then the status byte instead of the instruction."""

    id: int
    code: int
    parameters: bytes = b""


def checksum(body: bytes | bytearray) -> int:
    """Inverted low byte of the sum of `body`, everything between the header and the checksum."""
    return ~sum(body) & 0xFF


def encode_frame(frame: Frame) -> bytes:
    """The frame on the wire."""
    body = bytes((frame.id, len(frame.parameters) + 2, frame.code)) + frame.parameters
    return HEADER + body + bytes((checksum(body),))


class FrameParser:
    """Cuts a byte stream into frames, however it is chunked, and finds its way again after noise.

    Attributes:
        discarded: Bytes that belonged to no valid frame.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.discarded = 0

    def feed(self, data: bytes) -> list[Frame]:
        """Add bytes; return the frames they complete."""
        self._buffer += data
        frames = []
        while (frame := self._next()) is not None:
            frames.append(frame)
        return frames

    def reset(self) -> None:
        """Forget a frame that has only partly arrived."""
        self.discarded += len(self._buffer)
        self._buffer.clear()

    def _next(self) -> Frame | None:
        buffer = self._buffer
        while True:
            start = buffer.find(HEADER)
            if start < 0:
                self._drop(len(buffer) - (1 if buffer.endswith(b"\xff") else 0))
                return None
            self._drop(start)
            if len(buffer) >= 3 and buffer[2] == 0xFF:  # one byte of noise before the header
                self._drop(1)
                continue
            if len(buffer) < 4:
                return None
            length = buffer[3]
            if length < 2:
                self._drop(1)
                continue
            if len(buffer) < length + 4:
                return None
            if checksum(buffer[2 : length + 3]) != buffer[length + 3]:
                self._drop(1)
                continue
            frame = Frame(buffer[2], buffer[4], bytes(buffer[5 : length + 3]))
            del buffer[: length + 4]
            return frame

    def _drop(self, count: int) -> None:
        self.discarded += count
        del self._buffer[:count]


def encode_value(register: Register, value: int) -> bytes:
    """The register's bytes for `value`. Raises `ValueError` when it does not fit."""
    word = abs(value)
    bits = 8 * register.size if register.sign_bit is None else register.sign_bit
    if word >= 1 << bits or (value < 0 and register.sign_bit is None):
        raise ValueError(f"{value} does not fit the register at address {register.address}")
    if value < 0 and register.sign_bit is not None:
        word |= 1 << register.sign_bit
    return word.to_bytes(register.size, "little")


def decode_value(register: Register, data: bytes | bytearray) -> int:
    """The inverse of `encode_value`."""
    word = int.from_bytes(data[: register.size], "little")
    if register.sign_bit is not None and word & 1 << register.sign_bit:
        return -(word & ~(1 << register.sign_bit))
    return word


def wire_time(byte_count: int) -> float:
    """How long `byte_count` bytes occupy the bus, ten bits each [s]."""
    return 10 * byte_count / BAUD_RATE


def describe_status(status: int) -> str:
    """The status bits in words, for example ``"overload, too hot"``."""
    return ", ".join(text for bit, text in STATUS_NAMES.items() if status & bit) or "ok"
