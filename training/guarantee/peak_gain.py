"""How far bounded inputs can drive a stable linear loop: the l1 norm of its impulse response, with its tail."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fermo.errors import FermoError
from fermo.training.guarantee.spectrum import spectral_radius

Array = NDArray[np.float64]

DECAYED = 1e-6  # row sums of |A^T| at which the summing ends
SLOWEST = 1.0 - 1e-5  # a loop nearer to the border counts as unstable: it would take millions of steps to decay


@dataclass(frozen=True, kw_only=True)
class PeakGain:
    """Bounds, for every time t, of the states of ``x+ = A x + B w + r`` that starts at x0; derived, no estimate.

    With |.| elementwise and ``||.||`` the Euclidean norm of a row::

        |x_t| <= max_k |A^k| |x0| + sum_k rows ||A^k B|| max ||w|| + sum_k |A^k| max |r|

    The middle term is attained by some w with one norm bound on every step, so it is no looser than any other bound of
    a linear loop (Dahleh and Pearson, "l1-optimal feedback controllers for MIMO discrete-time systems", 1987).

    Attributes:
        start: ``max_k |A^k|``, elementwise, ``(n, n)``.
        input: ``sum_k ||row_i(A^k B)||``, ``(n,)``.
        residual: ``sum_k |A^k|``, elementwise, ``(n, n)``.
    """

    start: Array
    input: Array
    residual: Array


def peak_gain(A: Array, B: Array) -> PeakGain:
    """The gains of a stable loop ``(n, n)`` with inputs ``(n, m)``.

    Sums are taken until ``|A^T|`` is small, and what follows is bounded by a geometric series: with
    ``S_T = sum_{k<T} |A^k|``, elementwise ``sum_k |A^k| <= sum_q |A^T|^q S_T = (I - |A^T|)^-1 S_T``.

    Raises:
        FermoError: A is not stable.
    """
    radius = spectral_radius(A)
    if not radius < SLOWEST:
        raise FermoError(f"the loop is not stable (spectral radius {radius:.6g}): bounded errors can drive it anywhere")
    n = len(A)
    power, start = np.eye(n), np.zeros((n, n))
    impulse, residual = np.zeros(n), np.zeros((n, n))
    while np.abs(power).sum(axis=1).max() >= DECAYED:
        start = np.maximum(start, np.abs(power))
        impulse += np.linalg.norm(power @ B, axis=1)
        residual += np.abs(power)
        power = A @ power
    tail = np.linalg.inv(np.eye(n) - np.abs(power))
    return PeakGain(start=np.maximum(start, np.abs(power) @ start), input=tail @ impulse, residual=tail @ residual)
