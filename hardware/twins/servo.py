"""The STS3215's firmware: registers, the 1 kHz position loop, the motor behind it and what protects it.

Constants of the motor are those of the 12 V version: about 3.3 Nm at stall, 2.7 A, no-load speed near 6 rad/s, so that
its back-EMF damps the joint by roughly 0.6 Nm s/rad.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fermo.hardware.sts3215 import (
    COUNTS_PER_TURN,
    EEPROM_END,
    MEMORY_SIZE,
    RADIANS_PER_COUNT,
    REGISTERS,
    STATUS_CURRENT,
    STATUS_OVERLOAD,
    STATUS_TEMPERATURE,
    STATUS_VOLTAGE,
    Register,
    decode_value,
    encode_value,
)

PERIOD = 0.001
"""Period of the position loop [s]."""

STALL_TORQUE = 3.35
"""At 12 V [Nm]."""

STALL_CURRENT = 2.7
"""At 12 V [A]."""

NO_LOAD_SPEED = 6.0
"""At 12 V [rad/s]."""

P_SCALE = 1 / 2048
"""Duty per count of error and unit of the P register: 16 gives 17 Nm/rad."""

D_SCALE = 1 / 2**21
"""Duty per count/s and unit of the D register."""

I_SCALE = 1 / 2**20
"""Duty per count, millisecond and unit of the I register."""

BACKLASH = 0.0044
"""Half the play between motor and horn, 0.25 degrees [rad]."""

NOMINAL_VOLTAGE = 12.0
CURRENT_UNIT = 0.0065
"""Of the current registers [A]."""

ACCELERATION_UNIT = 100.0
"""Of the acceleration register [counts/s^2]."""

PROTECTION_PERIOD = 0.01
"""How often heat, supply and load are looked at [s]."""

_SPEED_FILTER = 0.08  # first order, about 12 ms
_AMBIENT, _HEAT_CAPACITY, _THERMAL_RESISTANCE, _WINDING_RESISTANCE = 25.0, 40.0, 6.0, 4.4  # degC, J/K, K/W, ohm
_COUNTS_PER_RADIAN = 1 / RADIANS_PER_COUNT
_UNLIMITED = 1e9
_LATCHED = STATUS_OVERLOAD | STATUS_CURRENT | STATUS_TEMPERATURE


class Servo:
    """One servo. Scalars rather than arrays: at 1 kHz and six servos that is five times faster than NumPy.

    Angles here are the servo's own, counted from its encoder's zero.

    Args:
        servo_id: Address on the bus.

    Attributes:
        status: Status bits, in every reply; trips latch until torque is switched on again.
        temperature: Of the winding [degC].
        stuck: The encoder no longer moves.
        current: Motor current [A], signed like the torque.
    """

    def __init__(self, servo_id: int) -> None:
        self._memory = bytearray(MEMORY_SIZE)
        for name, register in REGISTERS.items():
            self._store(name, register.default)
        self._store("id", servo_id)
        self._factory = bytes(self._memory)
        self._kept = bytearray(self._memory[:EEPROM_END])
        self.status = 0
        self.temperature = _AMBIENT + 5.0
        self.stuck = False
        self.current = 0.0
        self._voltage = NOMINAL_VOLTAGE
        self._counts = self._speed = self._setpoint = self._setpoint_speed = 0.0
        self._integral = self._slack = self._duty = 0.0
        self._overload_time = self._current_time = 0.0
        self._load_settings()

    def step(self, angle: float, velocity: float) -> float:
        """One period of the firmware; returns the torque on the horn [Nm].

        Args:
            angle: True horn angle [rad].
            velocity: True horn speed [rad/s].
        """
        counts = self._counts if self.stuck else float(round(angle * _COUNTS_PER_RADIAN))
        speed = self._speed = self._speed + _SPEED_FILTER * ((counts - self._counts) / PERIOD - self._speed)
        self._counts = counts
        if not self._enabled:
            self._duty = self.current = 0.0
            return 0.0
        if self._profiled:
            self._advance_profile()
        error = self._setpoint - counts
        if -self._dead_zone <= error <= self._dead_zone:
            error = 0.0
        limit = self._duty_limit
        duty = self._p * error - self._d * speed
        if self._i:
            self._integral = min(max(self._integral + self._i * error, -limit), limit)
            duty += self._integral
        duty = self._duty = min(max(duty, -limit), limit)
        return self._motor(duty * self._voltage / NOMINAL_VOLTAGE, velocity)

    def _motor(self, applied: float, velocity: float) -> float:
        """Torque through the gear's play; ``i / i_stall = V duty / 12 - w / w_0``."""
        drive = min(max(applied - velocity / NO_LOAD_SPEED, -self._drive_limit), self._drive_limit)
        self.current = drive * STALL_CURRENT
        slack = self._slack + PERIOD * (applied * NO_LOAD_SPEED - velocity)
        slack = self._slack = min(max(slack, -BACKLASH), BACKLASH)
        engaged = slack >= BACKLASH if drive > 0 else slack <= -BACKLASH
        return drive * STALL_TORQUE if engaged else 0.0

    def _advance_profile(self) -> None:
        """Move the set point towards the goal under the speed and acceleration registers."""
        distance = self._goal - self._setpoint
        speed = min(self._max_speed, math.sqrt(2 * self._max_acceleration * abs(distance)))
        change = self._max_acceleration * PERIOD
        wanted = math.copysign(speed, distance)
        self._setpoint_speed = min(max(wanted, self._setpoint_speed - change), self._setpoint_speed + change)
        travel = self._setpoint_speed * PERIOD
        if abs(distance) <= abs(travel) and travel * distance >= 0:
            self._setpoint, self._setpoint_speed = self._goal, 0.0
        else:
            self._setpoint += travel

    def protect(self, voltage: float) -> None:
        """Every `PROTECTION_PERIOD`: heat, supply [V], and the overload, over-current and temperature trips."""
        self._voltage = voltage
        amperes = abs(self.current)
        heat = amperes**2 * _WINDING_RESISTANCE - (self.temperature - _AMBIENT) / _THERMAL_RESISTANCE
        self.temperature += PROTECTION_PERIOD * heat / _HEAT_CAPACITY
        stalled = self._enabled and abs(self._duty) >= self._overload_duty and abs(self._speed) < 20
        self._overload_time = self._overload_time + PROTECTION_PERIOD if stalled else 0.0
        self._current_time = self._current_time + PROTECTION_PERIOD if amperes > self._current_limit else 0.0
        trips = 0
        if self._overload_time > self._overload_after:
            trips |= STATUS_OVERLOAD
        if self._current_time > self._current_after:
            trips |= STATUS_CURRENT
        if self.temperature > self._max_temperature:
            trips |= STATUS_TEMPERATURE
        in_range = self._min_voltage <= voltage <= self._max_voltage
        self.status = self.status & ~STATUS_VOLTAGE if in_range else self.status | STATUS_VOLTAGE
        if trips:
            self.trip(trips)

    def trip(self, status: int) -> None:
        """Latch status bits and let go."""
        self.status |= status
        if self.status & _LATCHED:
            self._store("torque_enable", 0)
            self._enabled = False

    def power_cycle(self) -> None:
        """The supply was gone for a moment: volatile registers return to their defaults."""
        self._memory[:] = self._factory
        self._memory[:EEPROM_END] = self._kept
        self._store("torque_limit", self.value("max_torque"))
        self.status = 0
        self._rest()

    def place(self, angle: float) -> None:
        """Someone moved the horn by hand: encoder and goal are at `angle` [rad], nothing moves."""
        self._counts = float(round(angle * _COUNTS_PER_RADIAN))
        self._rest()

    def _rest(self) -> None:
        self._speed = self._setpoint_speed = self._integral = 0.0
        self._overload_time = self._current_time = 0.0
        self._store("goal_position", int(self._counts) - self.value("homing_offset"))
        self._load_settings()
        self._setpoint = self._goal

    def read(self, address: int, size: int) -> bytes:
        """`size` bytes from `address`, measured values brought up to date first."""
        for register, measure in _MEASURED:
            if address <= register.address < address + size:
                self._put(register, measure(self))
        return bytes(self._memory[address : address + size])

    def write(self, address: int, data: bytes) -> None:
        """Store bytes; what is not writable is left alone, as the device does."""
        if address == _GOAL.address and len(data) == _GOAL.size:  # the hot path: a new goal and nothing else
            self._memory[address : address + _GOAL.size] = data
            self._goal = float(decode_value(_GOAL, data) + self._homing)
            if not self._profiled:
                self._setpoint = self._goal
            return
        was_enabled, unlocked = self._enabled, self.value("lock") == 0
        for place, value in enumerate(data, start=address):
            if place in _WRITABLE:
                self._memory[place] = value
                if unlocked and place < EEPROM_END:
                    self._kept[place] = value
        if self.value("torque_enable") and not was_enabled:
            self.status &= STATUS_VOLTAGE  # switching torque on clears the latched trips
            self._overload_time = self._current_time = self._integral = self._setpoint_speed = 0.0
            self._setpoint = self._counts
        self._load_settings()

    def value(self, name: str) -> int:
        """Register `name` as last stored."""
        register = REGISTERS[name]
        return decode_value(register, self._memory[register.address : register.address + register.size])

    def _store(self, name: str, value: int) -> None:
        self._put(REGISTERS[name], value)

    def _put(self, register: Register, value: int) -> None:
        limit = (1 << (8 * register.size if register.sign_bit is None else register.sign_bit)) - 1
        value = max(0 if register.sign_bit is None else -limit, min(limit, value))
        self._memory[register.address : register.address + register.size] = encode_value(register, value)

    def _load_settings(self) -> None:
        """Bring the loop's constants in line with the registers."""
        value = self.value
        self._homing = value("homing_offset")
        self._goal = float(value("goal_position") + self._homing)
        self._enabled = value("torque_enable") > 0
        self._p, self._d, self._i = value("p_gain") * P_SCALE, value("d_gain") * D_SCALE, value("i_gain") * I_SCALE
        self._dead_zone = max(value("cw_dead_zone"), value("ccw_dead_zone"))
        self._duty_limit = min(value("torque_limit"), value("max_torque")) / 1000
        acceleration, speed = value("acceleration"), abs(value("goal_speed"))
        self._profiled = acceleration > 0 or speed > 0
        self._max_acceleration = acceleration * ACCELERATION_UNIT if acceleration else _UNLIMITED
        self._max_speed = float(speed) if speed else _UNLIMITED
        if not self._profiled:
            self._setpoint = self._goal
        self._overload_duty = value("overload_torque") / 100
        self._overload_after, self._current_after = value("protection_time") / 100, value("over_current_time") / 100
        self._current_limit = value("protection_current") * CURRENT_UNIT
        self._drive_limit = min(self._current_limit / STALL_CURRENT, 1.0)
        self._max_temperature = value("max_temperature")
        self._min_voltage, self._max_voltage = value("min_voltage") / 10, value("max_voltage") / 10


_MEASURES: dict[str, Callable[[Servo], int]] = {
    "present_position": lambda servo: int(servo._counts) % COUNTS_PER_TURN - servo._homing,
    "present_speed": lambda servo: int(servo._speed),
    "present_load": lambda servo: int(1000 * servo._duty),
    "present_voltage": lambda servo: round(10 * servo._voltage),
    "present_temperature": lambda servo: round(servo.temperature),
    "status": lambda servo: servo.status,
    "moving": lambda servo: int(abs(servo._setpoint - servo._counts) > 10),
    "present_current": lambda servo: int(servo.current / CURRENT_UNIT),
}
_MEASURED = tuple((REGISTERS[name], measure) for name, measure in _MEASURES.items())
_GOAL: Register = REGISTERS["goal_position"]
_WRITABLE = frozenset(
    register.address + offset
    for register in REGISTERS.values()
    if register.writable
    for offset in range(register.size)
)
