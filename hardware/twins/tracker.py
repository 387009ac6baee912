"""The twin's object tracker (temporary: exact, 30 Hz, 30 ms late)."""

from __future__ import annotations

import math
from typing import Any

from fermo.hardware.twins.servo import PERIOD
from fermo.hardware.twins.so101 import So101World


class TrackerFeed:
    """Frames."""

    def __init__(self, world: So101World, seed: int = 0) -> None:
        self._world = world
        self._sequence = 0
        self.reset(0)

    def reset(self, tick: int) -> None:
        """Look at once."""
        self._look(tick)

    def _look(self, tick: int) -> None:
        w, x, y, z = self._world.cube_quaternion()
        yaw = 2 * math.atan2(z, w)
        self._sequence += 1
        self._frame = {
            "sequence": self._sequence, "capture_time": tick * PERIOD, "position": self._world.cube_position().tolist(),
            "heading": [math.cos(4 * yaw), math.sin(4 * yaw)],
        }

    def ticks_to_next(self, tick: int) -> int:
        return 33 - tick % 33

    def update(self, tick: int) -> dict[str, Any] | None:
        if tick % 33:
            return None
        self._look(tick)
        return self.latest(tick * PERIOD)

    def latest(self, time: float) -> dict[str, Any]:
        return {**self._frame, "age": time - self._frame["capture_time"]}
