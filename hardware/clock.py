"""Time, injected: the same loop runs on the wall clock and in simulated time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Seconds from an arbitrary origin, never backwards."""

    def now(self) -> float:
        """The time [s]."""
        ...

    def sleep_until(self, deadline: float) -> None:
        """Return at `deadline` [s] or, when it has passed, at once."""
        ...


class WallClock:
    """The machine's monotonic clock."""

    def now(self) -> float:
        """Monotonic time [s]."""
        return time.monotonic()

    def sleep_until(self, deadline: float) -> None:
        """Sleep to an absolute deadline [s], so that lateness never accumulates."""
        remaining = deadline - time.monotonic()
        if remaining > 0:
            time.sleep(remaining)


class LockstepClock:
    """Simulated time: sleeping is what makes it pass, so behaviour is the same on a fast and on a slow machine.

    Args:
        advance: Moves the simulation forward by the given seconds and returns its new time [s].
        start: The simulation's time now [s].
    """

    def __init__(self, advance: Callable[[float], float], start: float = 0.0) -> None:
        self._advance = advance
        self._now = start

    def now(self) -> float:
        """Simulated time [s]."""
        return self._now

    def sleep_until(self, deadline: float) -> None:
        """Step the simulation exactly to `deadline` [s]."""
        remaining = deadline - self._now
        if remaining > 1e-9:
            self._now = self._advance(remaining)
