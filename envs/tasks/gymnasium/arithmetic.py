"""Sums and products rounded as NumPy rounds them, on any device, so that rewards equal Gymnasium's to the last bit."""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor

from fermo.envs.core import host

_LANES = 8  # NumPy adds in eight interleaved lanes ...
_BLOCK = 128  # ... in blocks of at most this many numbers, halving longer rows


def sum_squares(rows: Tensor) -> Tensor:
    """``np.sum(np.square(row))`` of each row, ``(N, n)`` to ``(N,)``, in the rows' own precision and NumPy's order."""
    return pairwise_sum(rows * rows)


def pairwise_sum(rows: Tensor) -> Tensor:
    """``np.sum(row)`` of each row, ``(N, n)`` to ``(N,)``: pairwise summation with NumPy's block and lane sizes."""
    if host.on_host(rows):
        return torch.from_numpy(np.add.reduce(rows.contiguous().numpy(), axis=1))
    n = rows.shape[1]
    if n > _BLOCK:
        half = n // 2 - (n // 2) % _LANES
        return pairwise_sum(rows[:, :half]) + pairwise_sum(rows[:, half:])
    whole = n - n % _LANES
    total = torch.zeros_like(rows[:, 0])
    if whole:
        lanes = functools.reduce(torch.add, rows[:, :whole].unflatten(1, (-1, _LANES)).unbind(1))
        a, b, c, d = (lanes[:, 0::2] + lanes[:, 1::2]).unbind(1)
        total = (a + b) + (c + d)
    return functools.reduce(torch.add, rows[:, whole:].unbind(1), total)


def weighted(weight: float, scalar: Tensor) -> Tensor:
    """``weight * scalar`` as for a Python float and NumPy scalars, then float64.

    The product with a float32 scalar is float64 before NumPy 2 and float32 from it on (NEP 50).
    """
    if scalar.dtype == torch.float32 and (1.0 * np.float32(1.0)).dtype == np.float64:
        scalar = scalar.to(torch.float64)
    return (weight * scalar).to(torch.float64)
