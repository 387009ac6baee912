"""Numbers of a task as tensors, copied to a device once: a captured step cannot copy from the host."""

from __future__ import annotations

import functools

import torch
from torch import Tensor


@functools.cache
def constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """`values` as a float64 tensor on `device`, the same one at every call; not to be written to."""
    return torch.tensor(values, dtype=torch.float64, device=device)
