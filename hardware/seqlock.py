"""A block of numbers shared between two processes: one writes, the other never sees half of it."""

from __future__ import annotations

import time
from multiprocessing.context import BaseContext

import numpy as np


class SeqlockBlock:
    """`size` float64 behind a sequence count that is odd while they are being written.

    One writer, any number of readers, no lock anybody could die holding. Hand the object to a child process as an
    argument when it is spawned.
    """

    def __init__(self, context: BaseContext, size: int) -> None:
        self._raw = context.RawArray("d", size + 1)

    def write(self, values: np.ndarray) -> None:
        """Publish `values`, ``(size,)``."""
        block = np.frombuffer(self._raw)
        block[0] += 1
        block[1:] = values
        block[0] += 1

    def read(self) -> tuple[int, np.ndarray]:
        """How often something was published, and the newest values ``(size,)``."""
        block = np.frombuffer(self._raw)
        while True:
            before = block[0]
            values = block[1:].copy()
            if before == block[0] and before % 2 == 0:
                return int(before) // 2, values
            time.sleep(0)  # let the writer finish
