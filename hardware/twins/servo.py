"""The STS3215's firmware: registers, the 1 kHz position loop, the motor behind it and what protects it.

Constants of the motor are those of the 12 V version: about 3.3 Nm at stall, 2.7 A, no-load speed near 6 rad/s, so that
its back-EMF damps the joint by roughly 0.6 Nm s/rad.
"""

from __future__ import annotations

import numpy as np

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

_SPEED_FILTER = 0.08  # first order, about 12 ms
_SLOW_STEPS = 10  # temperature, supply and protection are looked at every 10 ms
_AMBIENT, _HEAT_CAPACITY, _THERMAL_RESISTANCE, _WINDING_RESISTANCE = 25.0, 40.0, 6.0, 4.4  # degC, J/K, K/W, ohm
_SUPPLY_RESISTANCE = 0.12  # ohm, shared by all servos


class ServoBank:
    """`count` servos on one supply, stepped together.

    Angles here are the servo's own, counted from the encoder's zero, shape ``(count,)``.

    Attributes:
        memory: Register bytes, shape ``(count, MEMORY_SIZE)`` uint8; read it through `read`, which refreshes it.
        temperature: Of the windings [degC].
        stuck: Encoders that no longer move, bool.
        supply: Open-circuit supply voltage [V].
    """

    def __init__(self, count: int = 6) -> None:
        self.count = count
        self._kept = np.zeros((count, EEPROM_END), np.uint8)
        self.memory = np.zeros((count, MEMORY_SIZE), np.uint8)
        for register in REGISTERS.values():
            bytes_ = np.frombuffer(encode_value(register, register.default), np.uint8)
            self.memory[:, register.address : register.address + register.size] = bytes_
        self.memory[:, REGISTERS["id"].address] = np.arange(1, count + 1)
        self._kept[:] = self.memory[:, :EEPROM_END]
        self._factory = self.memory[0].copy()
        self.temperature = np.full(count, _AMBIENT + 5.0)
        self.stuck = np.zeros(count, bool)
        self.supply = NOMINAL_VOLTAGE
        self._voltage = NOMINAL_VOLTAGE
        self._counts = np.zeros(count)
        self._speed = np.zeros(count)
        self._setpoint = np.zeros(count)
        self._setpoint_speed = np.zeros(count)
        self._integral = np.zeros(count)
        self._slack = np.zeros(count)
        self._duty = np.zeros(count)
        self._current = np.zeros(count)
        self._status = np.zeros(count, np.uint8)
        self._overload_time = np.zeros(count)
        self._current_time = np.zeros(count)
        self._ticks = 0
        self._load_settings()

    def step(self, angle: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """One period of the firmware; returns the torque on the horn [Nm].

        Args:
            angle: True horn angle [rad].
            velocity: True horn speed [rad/s].
        """
        counts = np.rint(angle * (1 / RADIANS_PER_COUNT))
        if self.stuck.any():
            counts = np.where(self.stuck, self._counts, counts)
        self._speed += _SPEED_FILTER * ((counts - self._counts) * (1 / PERIOD) - self._speed)
        self._counts = counts
        if self._profiled:
            self._advance_profile()
        error = self._setpoint - counts
        error[np.abs(error) <= self._dead_zone] = 0.0
        duty = self._p * error - self._d * self._speed
        if self._integrating:
            self._integral = np.clip(self._integral + self._i * error, -self._duty_limit, self._duty_limit)
            duty += self._integral
        duty = self._duty = np.maximum(np.minimum(duty, self._duty_limit), -self._duty_limit)
        self._ticks += 1
        if self._ticks % _SLOW_STEPS == 0:
            self._protect()
        return self._motor(duty, velocity)

    def _motor(self, duty: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """Torque of the motor through its gear's play; ``i / i_stall = V / 12 duty - w / w_0``."""
        applied = duty * (self._voltage / NOMINAL_VOLTAGE)
        drive = applied - velocity * (1 / NO_LOAD_SPEED)
        drive = np.maximum(np.minimum(drive, self._drive_limit), -self._drive_limit)
        drive *= self._enabled
        self._current = drive
        slack = self._slack + PERIOD * (applied * NO_LOAD_SPEED - velocity) * self._enabled
        self._slack = slack = np.maximum(np.minimum(slack, BACKLASH), -BACKLASH)
        engaged = ((slack >= BACKLASH) & (drive > 0)) | ((slack <= -BACKLASH) & (drive < 0))
        return drive * engaged * STALL_TORQUE

    def _advance_profile(self) -> None:
        """Move the set point towards the goal under the speed and acceleration registers."""
        distance = self._goal - self._setpoint
        speed = np.minimum(self._max_speed, np.sqrt(2 * self._max_acceleration * np.abs(distance)))
        wanted = np.sign(distance) * speed
        change = self._max_acceleration * PERIOD
        self._setpoint_speed = np.clip(wanted, self._setpoint_speed - change, self._setpoint_speed + change)
        travel = self._setpoint_speed * PERIOD
        arrives = (np.abs(distance) <= np.abs(travel)) & (travel * distance >= 0)
        free = ~self._has_profile | arrives
        self._setpoint = np.where(free, self._goal, self._setpoint + travel)
        self._setpoint_speed[free] = 0.0

    def _protect(self) -> None:
        """Heat, supply and the overload, over-current and temperature trips."""
        period = PERIOD * _SLOW_STEPS
        amperes = np.abs(self._current) * STALL_CURRENT
        heat = amperes**2 * _WINDING_RESISTANCE - (self.temperature - _AMBIENT) / _THERMAL_RESISTANCE
        self.temperature += period * heat / _HEAT_CAPACITY
        self._voltage = self.supply - _SUPPLY_RESISTANCE * float(amperes.sum())
        stalled = (np.abs(self._duty) >= self._overload_duty) & (np.abs(self._speed) < 20) & (self._enabled > 0)
        self._overload_time = np.where(stalled, self._overload_time + period, 0.0)
        self._current_time = np.where(amperes > self._current_limit, self._current_time + period, 0.0)
        self._status[self._overload_time > self._overload_after] |= STATUS_OVERLOAD
        self._status[self._current_time > self._current_after] |= STATUS_CURRENT
        self._status[self.temperature > self._max_temperature] |= STATUS_TEMPERATURE
        bad_supply = (self._voltage < self._min_voltage) | (self._voltage > self._max_voltage)
        self._status = np.where(bad_supply, self._status | STATUS_VOLTAGE, self._status & ~np.uint8(STATUS_VOLTAGE))
        self._release(self._status & (STATUS_OVERLOAD | STATUS_CURRENT | STATUS_TEMPERATURE) != 0)

    def trip(self, index: int, status: int) -> None:
        """Latch status bits in servo `index` as its protection would, switching its torque off."""
        self._status[index] |= status
        self._release(np.arange(self.count) == index)

    def _release(self, mask: np.ndarray) -> None:
        if mask.any():
            self.memory[mask, REGISTERS["torque_enable"].address] = 0
            self._enabled[mask] = 0.0

    def power_cycle(self, index: int) -> None:
        """Servo `index` loses its supply for a moment: volatile registers return to their defaults."""
        self.memory[index] = self._factory
        self.memory[index, :EEPROM_END] = self._kept[index]
        self._status[index] = 0
        self._overload_time[index] = self._current_time[index] = self._integral[index] = 0.0
        limit = self._value("max_torque", index)
        self._store("torque_limit", index, limit)
        self._hold_here(index)
        self._load_settings()

    def place(self, angle: np.ndarray) -> None:
        """Someone has moved the arm by hand: encoders and goals are at `angle` [rad], nothing moves."""
        self._counts = np.rint(angle / RADIANS_PER_COUNT)
        for name in ("_speed", "_integral", "_setpoint_speed", "_overload_time", "_current_time"):
            getattr(self, name)[:] = 0.0
        for index in range(self.count):
            self._hold_here(index)
        self._load_settings()
        self._setpoint = self._goal.copy()

    def _hold_here(self, index: int) -> None:
        homing = self._value("homing_offset", index)
        self._store("goal_position", index, int(self._counts[index]) - homing)
        self._setpoint[index] = self._counts[index]

    def read(self, index: int, address: int, size: int) -> bytes:
        """`size` bytes of servo `index` from `address`, measured values brought up to date first."""
        if address + size > REGISTERS["present_position"].address:
            self._refresh(index)
        return self.memory[index, address : address + size].tobytes()

    def write(self, index: int, address: int, data: bytes) -> None:
        """Store bytes in servo `index`; what is not writable is left alone, as the device does."""
        was_enabled = self.memory[index, REGISTERS["torque_enable"].address]
        unlocked = self.memory[index, REGISTERS["lock"].address] == 0
        for offset, value in enumerate(data):
            if _WRITABLE[min(address + offset, MEMORY_SIZE - 1)]:
                self.memory[index, address + offset] = value
                if unlocked and address + offset < EEPROM_END:
                    self._kept[index, address + offset] = value
        if self.memory[index, REGISTERS["torque_enable"].address] and not was_enabled:
            self._status[index] &= STATUS_VOLTAGE  # switching torque on clears the latched trips
            self._overload_time[index] = self._current_time[index] = self._integral[index] = 0.0
            self._setpoint[index] = self._counts[index]
        goal = REGISTERS["goal_position"]
        if address == goal.address and len(data) == goal.size:  # the hot path: a new goal and nothing else
            self._goal[index] = decode_value(goal, data) + self._homing[index]
            if not self._has_profile[index]:
                self._setpoint[index] = self._goal[index]
        else:
            self._load_settings()

    def status(self, index: int) -> int:
        """The status byte of servo `index`."""
        return int(self._status[index])

    def _value(self, name: str, index: int) -> int:
        register = REGISTERS[name]
        return decode_value(register, self.memory[index, register.address : register.address + register.size].tobytes())

    def values(self, name: str) -> np.ndarray:
        """Register `name` of every servo, shape ``(count,)`` int64."""
        return np.array([self._value(name, index) for index in range(self.count)])

    def _store(self, name: str, index: int, value: int) -> None:
        register = REGISTERS[name]
        limit = (1 << (8 * register.size if register.sign_bit is None else register.sign_bit)) - 1
        data = encode_value(register, max(-limit if register.sign_bit is not None else 0, min(limit, value)))
        self.memory[index, register.address : register.address + register.size] = np.frombuffer(data, np.uint8)

    def _refresh(self, index: int) -> None:
        homing = int(self._homing[index])
        self._store("present_position", index, int(self._counts[index]) % COUNTS_PER_TURN - homing)
        self._store("present_speed", index, int(self._speed[index]))
        self._store("present_load", index, int(1000 * self._duty[index] * self._enabled[index]))
        self._store("present_voltage", index, round(10 * self._voltage))
        self._store("present_temperature", index, round(self.temperature[index]))
        self._store("status", index, int(self._status[index]))
        self._store("moving", index, int(abs(self._setpoint[index] - self._counts[index]) > 10))
        self._store("present_current", index, int(self._current[index] * STALL_CURRENT / CURRENT_UNIT))

    def _load_settings(self) -> None:
        """Bring the loop's constants in line with the registers."""
        self._homing = self.values("homing_offset").astype(float)
        self._goal = self.values("goal_position") + self._homing
        self._p = self.values("p_gain") * P_SCALE
        self._d = self.values("d_gain") * D_SCALE
        self._i = self.values("i_gain") * I_SCALE
        self._integrating = bool(self._i.any())
        self._dead_zone = np.maximum(self.values("cw_dead_zone"), self.values("ccw_dead_zone")).astype(float)
        self._duty_limit = np.minimum(self.values("torque_limit"), self.values("max_torque")) / 1000
        self._enabled = (self.values("torque_enable") > 0).astype(float)
        acceleration, speed = self.values("acceleration"), np.abs(self.values("goal_speed"))
        self._has_profile = (acceleration > 0) | (speed > 0)
        self._profiled = bool(self._has_profile.any())
        self._max_acceleration = np.where(acceleration > 0, acceleration * ACCELERATION_UNIT, 1e9)
        self._max_speed = np.where(speed > 0, speed, 1e9)
        self._setpoint = np.where(self._has_profile, self._setpoint, self._goal)
        self._overload_duty = self.values("overload_torque") / 100
        self._overload_after = self.values("protection_time") / 100
        self._current_limit = self.values("protection_current") * CURRENT_UNIT
        self._current_after = self.values("over_current_time") / 100
        self._drive_limit = np.minimum(self._current_limit / STALL_CURRENT, 1.0)
        self._max_temperature = self.values("max_temperature")
        self._min_voltage, self._max_voltage = self.values("min_voltage") / 10, self.values("max_voltage") / 10


def _writable_addresses() -> np.ndarray:
    mask = np.zeros(MEMORY_SIZE, bool)
    for register in REGISTERS.values():
        mask[register.address : register.address + register.size] = register.writable
    return mask


_WRITABLE = _writable_addresses()
