"""The blend that keeps scripted experts continuous."""

from __future__ import annotations

from torch import Tensor


def ramp(x: Tensor, low: Tensor | float, high: Tensor | float) -> Tensor:
    """0 below `low`, 1 above `high`, straight between."""
    return ((x - low) / (high - low)).clamp(0.0, 1.0)
