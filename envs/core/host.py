"""Where NumPy may do the work of torch: small arrays on the CPU, at half the time."""

from __future__ import annotations

from torch import Tensor


def on_host(tensor: Tensor) -> bool:
    """Whether NumPy may look at the tensor's memory; asked as ``host.on_host``, so that a test can deny it."""
    return tensor.device.type == "cpu"
