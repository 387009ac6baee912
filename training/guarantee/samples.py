"""Where premises are measured: the corners of a box and draws from its inside, and what these may have missed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

INFLATION = 1.1
"""Factor on the largest departure that samples show, for what they miss."""

ROUNDS = 30
"""How often a box may be enlarged, and new samples asked, before a search gives up."""


def corners(n: int) -> Array:
    """Those of the box [-1, 1]^n, ``(2^n, n)``."""
    return np.stack(np.meshgrid(*[(-1.0, 1.0)] * n), axis=-1).reshape(-1, n)


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Deviations and action changes in the unit box and ball: its corners, and draws from the inside.

    Attributes:
        x: ``(N, n)``, in [-1, 1].
        w: ``(N, m)``, of norm at most 1.
    """

    x: Array
    w: Array

    @classmethod
    def draw(cls, n: int, m: int, count: int, seed: int, *, with_corners: bool = True) -> Samples:
        """`count` uniform draws, after the 2^n corners if asked."""
        rng = np.random.default_rng(seed)
        inside, direction = rng.uniform(-1.0, 1.0, (count, n)), rng.normal(size=(count, m))
        radius = rng.uniform(size=(count, 1)) ** (1 / m)
        w = radius * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        if not with_corners:
            return cls(x=inside, w=w)
        edge = corners(n)
        push = np.repeat([1.0, -1.0], len(edge))[:, None] * np.ones(m) / np.sqrt(m)
        return cls(x=np.concatenate([edge, edge, inside]), w=np.concatenate([push, w]))


def unseen_share(samples: int, confidence: float = 0.999) -> float:
    """Largest share of a box, by volume, that may break a rule which all of `samples` new uniform draws kept.

    If the share were e, all would keep it with probability ``(1 - e)^samples``; each of the `ROUNDS` in which new draws
    may be asked has its part of the chance to err.
    """
    return 1.0 - ((1.0 - confidence) / ROUNDS) ** (1.0 / samples)
