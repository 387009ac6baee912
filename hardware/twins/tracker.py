"""The twin's object tracker: the model the simulator uses, looking at the twin's cube."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fermo.envs.core.object_tracker import ObjectTracker, ObjectTrackerConfig
from fermo.envs.core.random import WorldRandom
from fermo.hardware.twins.servo import PERIOD
from fermo.hardware.twins.so101 import So101World

_EVERY_WORLD = torch.ones(1, dtype=torch.bool)


class _Stream(WorldRandom):
    """Plain consecutive draws: a single twin needs no counters, and they cost a hundred times less."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64))
        self._generator = np.random.default_rng(seed)

    def uniform(self, use: str, shape: tuple[int, ...] = (), *, step: int | Tensor = 0, low: float = 0.0,
                high: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:  # fmt: skip
        """Uniform in [low, high), shape ``(1, *shape)``."""
        return torch.from_numpy(self._generator.uniform(low, high, (1, *shape))).to(dtype)

    def normal(self, use: str, shape: tuple[int, ...] = (), *, step: int | Tensor = 0,
               dtype: torch.dtype = torch.float64) -> Tensor:  # fmt: skip
        """Standard normal, shape ``(1, *shape)``."""
        return torch.from_numpy(self._generator.standard_normal((1, *shape))).to(dtype)


class TrackerFeed:
    """Frames of the cube in `world`, as the tracker's socket sends them.

    Args:
        world: What is looked at.
        seed: Of noise, dropout and phase.
    """

    def __init__(self, world: So101World, seed: int = 0) -> None:
        self._world = world
        self._config = ObjectTrackerConfig()
        # One look a frame: never more than one is due, and the model need not search for more.
        self._tracker = ObjectTracker(self._config, _Stream(seed), max_update_dt=0.0)
        self._sequence = 0  # never starts again, unlike the model's
        self._capture_time = -1.0
        self.reset(0)

    def reset(self, tick: int) -> None:
        """The cube was moved by hand: forget the frames under way, deliver one at once."""
        self._tracker.reset(_EVERY_WORLD, *self._scene(tick))
        self._note()
        self._in_rhythm = False  # the frame delivered at once was not taken at the camera's own time
        self._schedule(tick)

    def ticks_to_next(self, tick: int) -> int:
        """Milliseconds until `update` wants to be called."""
        return self._due - tick

    def update(self, tick: int) -> dict[str, Any] | None:
        """Look, if it is time; the frame that was delivered, or None."""
        if tick < self._due:
            return None
        self._tracker.update(*self._scene(tick))
        news = self._note()
        self._in_rhythm |= news
        self._schedule(tick)
        return self.latest(tick * PERIOD) if news else None

    def _schedule(self, tick: int) -> None:
        """Look next when a frame would be delivered if nothing hid it; frames keep their rhythm when some are lost."""
        rate = self._config.rate_hz
        rhythm = self._capture_time + self._config.latency_s if self._in_rhythm else tick * PERIOD
        while math.ceil(rhythm / PERIOD - 1e-6) <= tick:
            rhythm += 1.0 / rate
        self._due = math.ceil(rhythm / PERIOD - 1e-6)

    def latest(self, time: float) -> dict[str, Any]:
        """The newest delivered frame, JSON-able."""
        return {
            "sequence": self._sequence,
            "capture_time": self._capture_time,
            "age": time - self._capture_time,
            "position": self._tracker.position[0].tolist(),
            "heading": self._tracker.heading[0].tolist(),
        }

    def _note(self) -> bool:
        capture_time = float(self._tracker.capture_time[0])
        news = capture_time != self._capture_time
        if news:
            self._capture_time, self._sequence = capture_time, self._sequence + 1
        return news

    def _scene(self, tick: int) -> tuple[Tensor, ...]:
        world = self._world
        parts = (world.cube_position(), world.cube_quaternion(), world.tool_position(), world.wrist_position())
        return torch.tensor([tick * PERIOD], dtype=torch.float64), *(torch.from_numpy(np.atleast_2d(p)) for p in parts)
