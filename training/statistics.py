"""Intervals for success rates and their differences; vectorised NumPy, and none is the normal guess."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

Array = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate with its two-sided interval; the three arrays share one shape.

    Attributes:
        value: The estimate.
        low: Lower limit.
        high: Upper limit.
    """

    value: Array
    low: Array
    high: Array


def wilson(successes: ArrayLike, trials: ArrayLike, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a binomial proportion.

    With p = s/n and z the normal quantile: (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n).
    E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209-212. It stays in [0, 1], also at 0 and at n successes.

    Args:
        successes: Counts, any shape that broadcasts with `trials`.
        trials: Counts, at least 1.
        confidence: Two-sided coverage, in (0, 1).

    Raises:
        ValueError: A count is out of range.
    """
    s, n = np.broadcast_arrays(np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    if np.any(n < 1) or np.any(s < 0) or np.any(s > n):
        raise ValueError(f"need 0 <= successes <= trials and trials >= 1, got {successes} of {trials}")
    p, z = s / n, _quantile(confidence)
    centre = p + z**2 / (2 * n)
    half = z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    return Interval(p, np.where(s == 0, 0.0, low), np.where(s == n, 1.0, high))  # exact where rounding is not


class PairedDifference(NamedTuple):
    """How two policies differ on the same starts.

    Attributes:
        difference: Success rate of the first minus that of the second, with its interval.
        table: Starts on which both succeeded, only the first, only the second, neither.
    """

    difference: Interval
    table: tuple[int, int, int, int]


def paired_difference(first: ArrayLike, second: ArrayLike, confidence: float = 0.95) -> PairedDifference:
    """Difference of two success rates measured on the same starts, `newcombe_paired` of their 2x2 table.

    Args:
        first: Outcomes of one policy, shape ``(n,)`` of 0 and 1.
        second: Outcomes of the other on the same starts, shape ``(n,)``.
        confidence: Two-sided coverage, in (0, 1).

    Raises:
        ValueError: The shapes differ, a vector is empty, or an outcome is neither 0 nor 1.
    """
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape or a.ndim != 1 or a.size == 0:
        raise ValueError(f"paired outcomes need one shape (n,) with n >= 1, got {a.shape} and {b.shape}")
    if not (np.isin(a, (0, 1)).all() and np.isin(b, (0, 1)).all()):
        raise ValueError("outcomes must be 0 or 1")
    a, b = a.astype(bool), b.astype(bool)
    cells = (a & b, a & ~b, ~a & b, ~a & ~b)
    both, only_first, only_second, neither = (int(cell.sum()) for cell in cells)
    interval = newcombe_paired(both, only_first, only_second, neither, confidence)
    return PairedDifference(interval, (both, only_first, only_second, neither))


def newcombe_paired(both: ArrayLike, only_first: ArrayLike, only_second: ArrayLike, neither: ArrayLike,
                    confidence: float = 0.95) -> Interval:  # fmt: skip
    """Newcombe's interval for p1 - p2 from paired data: Wilson limits combined by square and add, method 10.

    With e, f, g, h the four counts, Wilson limits (l1, u1) of p1 = (e+f)/n and (l2, u2) of p2 = (e+g)/n:
    low = d - √(a² - 2φab + b²) with a = p1 - l1, b = u2 - p2, and high = d + √(c² - 2φcd' + d'²) with c = u1 - p1,
    d' = p2 - l2. φ = (eh - fg)/√((e+f)(g+h)(e+g)(f+h)), where a positive numerator is first reduced by n/2, to no
    less than 0, and φ = 0 when a margin is empty. R. G. Newcombe, Stat. Med. 17 (1998) 2635-2650.

    Args:
        both: Starts on which both succeeded; all four broadcast.
        only_first: Starts on which only the first succeeded.
        only_second: Starts on which only the second succeeded.
        neither: Starts on which both failed.
        confidence: Two-sided coverage, in (0, 1).
    """
    counts = (both, only_first, only_second, neither)
    e, f, g, h = np.broadcast_arrays(*(np.asarray(count, dtype=np.float64) for count in counts))
    n = e + f + g + h
    one, two = wilson(e + f, n, confidence), wilson(e + g, n, confidence)
    numerator = e * h - f * g
    numerator = np.where(numerator > 0, np.maximum(numerator - n / 2, 0.0), numerator)
    margins = (e + f) * (g + h) * (e + g) * (f + h)
    phi = np.where(margins > 0, numerator / np.sqrt(np.where(margins > 0, margins, 1.0)), 0.0)
    difference = (f - g) / n
    low = difference - _square_and_add(one.value - one.low, two.high - two.value, phi)
    high = difference + _square_and_add(one.high - one.value, two.value - two.low, phi)
    return Interval(difference, low, high)


def bootstrap(values: ArrayLike, statistic: Callable[..., Array] = np.mean, *, seed: int, confidence: float = 0.95,
              resamples: int = 2000) -> Interval:  # fmt: skip
    """Percentile bootstrap interval of a statistic of independent rows (Efron, Ann. Stat. 7 (1979) 1-26).

    Args:
        values: Sample, shape ``(n, ...)``; whole rows are drawn again, so what belongs together stays together.
        statistic: Called as ``statistic(array, axis=k)`` and reduces that axis, as `numpy.mean` does.
        seed: Seed of the draws.
        confidence: Two-sided coverage, in (0, 1).
        resamples: How many samples are drawn.

    Returns:
        The statistic of `values` with its limits, shape ``values.shape[1:]``.

    Raises:
        ValueError: The sample is empty.
    """
    x = np.asarray(values, dtype=np.float64)
    if x.ndim == 0 or x.shape[0] == 0:
        raise ValueError("a bootstrap needs at least one value")
    rng = np.random.default_rng(seed)
    block = max(1, min(resamples, 10_000_000 // x.size))  # bounds the memory of one block of resamples
    sizes = [block] * (resamples // block) + ([resamples % block] if resamples % block else [])
    draws = np.concatenate([statistic(x[rng.integers(x.shape[0], size=(size, x.shape[0]))], axis=1) for size in sizes])
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return Interval(np.asarray(statistic(x, axis=0)), low, high)


def _square_and_add(first: Array, second: Array, correlation: Array) -> Array:
    """√(a² - 2φab + b²), guarded against the rounding that would make a zero negative."""
    return np.sqrt(np.maximum(first**2 - 2 * correlation * first * second + second**2, 0.0))


def _quantile(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}")
    return float(ndtri(0.5 + confidence / 2))
