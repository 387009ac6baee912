"""What is wrong with a set of servos, judged from their cyclic reads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fermo.hardware.drivers.feetech import Snapshot, explain_status

DERATED = 600
"""Torque limit of a servo near its temperature limit, per mille."""

_DERATE_MARGIN, _FAULT_MARGIN = 10, 2  # below the servo's own temperature limit [degC]
_STUCK_ERROR, _STUCK_AFTER = 0.35, 0.5  # [rad], [s]


class ServoWatch:
    """Looks at every snapshot while the servos are under torque.

    Args:
        ids: Servo ids.
        names: Joint names.
        max_temperature: Each servo's own limit [degC], ``(servos,)``.
        may_stall: Joints that are allowed to push against something, such as a gripper, ``(servos,)`` bool.
    """

    def __init__(
        self, ids: Sequence[int], names: Sequence[str], max_temperature: np.ndarray, may_stall: np.ndarray
    ) -> None:
        self._ids, self._names = ids, names
        self._max_temperature, self._may_stall = max_temperature, may_stall
        self.reset(0.0)

    def reset(self, now: float) -> None:
        """Start watching afresh at time `now` [s]."""
        self._still_since = np.full(len(self._ids), now)
        self._last_position = np.full(len(self._ids), np.iinfo(np.int64).min)

    def find(self, snapshot: Snapshot, expected: dict[str, np.ndarray | int], error: np.ndarray, now: float) -> str:
        """Why the servos must not go on, in one line; empty when all is well.

        Args:
            snapshot: The newest read.
            expected: Settings as they were written; a servo that lost its supply comes back with others.
            error: Distance from goal to measured angle [rad], ``(servos,)``.
            now: Time [s].
        """
        if trouble := explain_status(self._ids, snapshot.status):
            return trouble
        registers = snapshot.registers
        for name, value in expected.items():
            if name in registers and (lost := registers[name] != value).any():
                return f"servo {self._ids[int(lost.argmax())]} lost its settings ({name}): was it power-cycled?"
        if "present_temperature" in registers:
            margin = self._max_temperature - registers["present_temperature"]
            if (margin <= _FAULT_MARGIN).any():
                return f"servo {self._ids[int(margin.argmin())]} is too hot, {margin.min()} degC below its limit"
        return self._stuck(registers["present_position"], error, now)

    def hot(self, snapshot: Snapshot) -> np.ndarray:
        """Which servos are near their temperature limit, ``(servos,)`` bool."""
        if "present_temperature" not in snapshot.registers:
            return np.zeros(len(self._ids), dtype=bool)
        return self._max_temperature - snapshot.registers["present_temperature"] <= _DERATE_MARGIN

    def _stuck(self, position: np.ndarray, error: np.ndarray, now: float) -> str:
        """A joint far from its goal whose reading never changes is jammed, or its encoder has died."""
        waiting = (np.abs(error) > _STUCK_ERROR) & (position == self._last_position) & ~self._may_stall
        self._still_since = np.where(waiting, self._still_since, now)
        self._last_position = position
        stuck = now - self._still_since > _STUCK_AFTER
        if not stuck.any():
            return ""
        joint = int(stuck.argmax())
        return (
            f"servo {self._ids[joint]} ({self._names[joint]}) has not moved for {_STUCK_AFTER} s although its goal is "
            f"{abs(error[joint]):.2f} rad away: stuck encoder or jam"
        )
