"""All pairs of demonstrations: how far apart they are, and what that forces on a Lipschitz map through them."""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

Array = np.ndarray


class Pairs:
    """Distances between all points, each computed from the difference itself, since near pairs decide.

    Attributes:
        distances: Shape ``(n, n)``, infinite on the diagonal: no point has a slope to itself.
    """

    def __init__(self, points: Array) -> None:
        self.distances = cdist(points, points)
        np.fill_diagonal(self.distances, np.inf)

    def steepest(self, values: Array) -> float:
        """``max ||v_i - v_j|| / ||x_i - x_j||``: the smallest constant of any map through ``values``, ``(n, m)``."""
        return float((cdist(values, values) / self.distances).max())

    def excess(self, values: Array, alpha: float) -> Array:
        """``||v_i - v_j|| - alpha ||x_i - x_j||``, positive where a pair breaks the bound, shape ``(n, n)``."""
        return cdist(values, values) - alpha * self.distances

    def residual_floor(self, targets: Array, alpha: float) -> float:
        """``max 0.5 (||u_i - u_j|| - alpha ||x_i - x_j||)_+``.

        Any alpha-Lipschitz map errs by at least this much at one of the two points of that pair (derived here).
        """
        return float(max(0.5 * self.excess(targets, alpha).max(), 0.0))

    def violated(self, values: Array, alpha: float, each: int) -> Array:
        """Pairs ``i < j`` that break the bound, shape ``(k, 2)``: of every point at most the `each` worst."""
        excess = self.excess(values, alpha)
        worst = np.argpartition(-excess, min(each, len(excess) - 1), axis=1)[:, :each]
        rows = np.repeat(np.arange(len(excess)), worst.shape[1])
        pairs = np.stack((rows, worst.ravel()), axis=1)[excess[rows, worst.ravel()] > 0]
        return np.unique(np.sort(pairs, axis=1), axis=0)
