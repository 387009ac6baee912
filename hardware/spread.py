"""Many values in three numbers."""

from __future__ import annotations

import numpy as np


def spread(values: np.ndarray) -> dict[str, float]:
    """Median, 99th percentile and maximum; all 0 where there are no values."""
    if values.size == 0:
        return {"median": 0.0, "p99": 0.0, "max": 0.0}
    median, p99, largest = np.percentile(values, [50, 99, 100])
    return {"median": float(median), "p99": float(p99), "max": float(largest)}
