"""Wall and CPU time of a block, CPU over all threads and finished child processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Elapsed:
    """What a `stopwatch` block took; zero until the block ends.

    Attributes:
        wall_s: Wall time [s].
        cpu_s: User and system time of this process and of the children it waited for [s].
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Elapsed]:
    """Measure a block."""
    elapsed, wall, cpu = Elapsed(), time.perf_counter(), _cpu_seconds()
    try:
        yield elapsed
    finally:
        elapsed.wall_s, elapsed.cpu_s = time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    return sum(os.times()[:4])
