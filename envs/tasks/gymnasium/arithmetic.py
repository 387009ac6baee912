"""Sums and products rounded as NumPy rounds them, on any device, so that rewards equal Gymnasium's to the last bit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LANES = 8  # NumPy adds in eight interleaved lanes ...
_BLOCK = 128  # ... in blocks of at most this many numbers, halving longer rows


def sum_squares(rows: Tensor) -> Tensor:
    """``np.sum(np.square(row))`` of each row, ``(N, n)`` to ``(N,)``, in the rows' own precision and NumPy's order."""
    return pairwise_sum(rows * rows)


def pairwise_sum(rows: Tensor) -> Tensor:
    """``np.sum(row)`` of each row, ``(N, n)`` to ``(N,)``: pairwise summation with NumPy's block and lane sizes."""
    n = rows.shape[1]
    if n > _BLOCK:
        half = n // 2 - (n // 2) % _LANES
        return pairwise_sum(rows[:, :half]) + pairwise_sum(rows[:, half:])
    whole = n - n % _LANES
    total = torch.zeros_like(rows[:, 0])
    if whole:
        lanes = rows[:, :_LANES]
        for start in range(_LANES, whole, _LANES):
            lanes = lanes + rows[:, start : start + _LANES]
        pairs = lanes[:, 0::2] + lanes[:, 1::2]
        total = (pairs[:, 0] + pairs[:, 1]) + (pairs[:, 2] + pairs[:, 3])
    for index in range(whole, n):
        total = total + rows[:, index]
    return total


def weighted(weight: float, scalar: Tensor) -> Tensor:
    """``weight * scalar`` as for a Python float and NumPy scalars, then float64.

    The product with a float32 scalar is float64 before NumPy 2 and float32 from it on (NEP 50).
    """
    if scalar.dtype == torch.float32 and (1.0 * np.float32(1.0)).dtype == np.float64:
        scalar = scalar.to(torch.float64)
    return (weight * scalar).to(torch.float64)
