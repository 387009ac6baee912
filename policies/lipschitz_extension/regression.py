r"""Constrained empirical risk minimisation on the graph of the demonstrations, solved with a duality gap.

    minimise sum_i mu_i ||v_i - u_i||^2   subject to   ||v_i - v_j|| <= alpha ||x_i - x_j|| for every pair

is the learning problem of Makdah, Krishnan and Pasqualetti (arXiv 2103.16629, read: the abstract) restricted to the
values v at the data. What follows is derived here. With multipliers lambda the minimiser solves a Poisson equation
with the weighted Laplacian L_lambda, ``(M + L_lambda) v = M u``, M = diag(mu); for equal masses that is
``(I/n + L_lambda) v = u/n``.

The constraints are written ``A v = s, ||s_e|| <= 1`` with one row ``(v_i - v_j) / (alpha ||x_i - x_j||)`` a pair, and
solved by the alternating direction method of multipliers (over-relaxed, Boyd et al. 2011): each step is one Poisson
equation of the graph and one projection a pair. Pairs enter when they are violated and leave when they are slack.
Every `_CHECK` steps **all** pairs are scanned; a solution is accepted only when it is feasible for all of them, which
shrinking it towards its mean by the last per mille ensures, and when its risk then is within the tolerance of the dual
value, which bounds every feasible risk from below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sparse

from fermo.errors import FermoError
from fermo.policies.lipschitz_extension.pairs import Array, Pairs

_CHECK = 50  # steps between scans
_EACH = 4  # pairs a point may add at a scan
_RELAXATION = 1.6
_KEPT = 0.9  # a pair without multiplier is watched on from this share of its length


@dataclass(frozen=True, kw_only=True)
class Regression:
    """A feasible solution and how good it is proved to be.

    Attributes:
        values: Feasible for every pair, shape ``(n, m)``.
        risk: ``sum mu ||v - u||^2``.
        gap: `risk` minus a lower bound on every feasible risk.
        pairs: Those with a multiplier, ``i < j``, shape ``(k, 2)``.
        multipliers: Their lambda, shape ``(k,)``.
        steps: Taken.
    """

    values: Array
    risk: float
    gap: float
    pairs: Array
    multipliers: Array
    steps: int


def regress(points: Array, targets: Array, mass: Array, alpha: float, *, tolerance: float = 1e-4,
            max_steps: int = 50_000) -> Regression:  # fmt: skip
    """The alpha-Lipschitz values nearest to the targets.

    Args:
        points: Distinct, shape ``(n, d)``.
        targets: Shape ``(n, m)``.
        mass: Weight of each point, positive, of sum 1, shape ``(n,)``.
        alpha: The bound.
        tolerance: Largest duality gap, as a share of the risk of the best constant.
        max_steps: At which to give up.

    Raises:
        FermoError: The gap is still too large after `max_steps`.
    """
    pairs = Pairs(points)
    accepted = tolerance * _risk(mass, mass @ targets, targets)
    graph = _Graph.of(pairs, pairs.violated(targets, alpha, _EACH), alpha)
    values, dual = targets, np.zeros((len(graph.pairs), targets.shape[1]))
    stiffness = 0.2 * mass.mean() / np.median(graph.weights**2) if len(graph.pairs) else 1.0
    gap, steps = 0.0, 0
    while True:
        feasible = _shrunk(values, mass, pairs.steepest(values) / alpha)
        risk = _risk(mass, feasible, targets)
        gap = risk - _dual_value(mass, targets, graph, dual)
        if gap <= accepted:
            active = np.linalg.norm(dual, axis=1) > 0
            multipliers = 0.5 * np.linalg.norm(dual, axis=1) * graph.weights**2
            return Regression(values=feasible, risk=risk, gap=gap, pairs=graph.pairs[active],
                              multipliers=multipliers[active], steps=steps)  # fmt: skip
        if steps >= max_steps:
            raise FermoError(f"the gap is {gap / accepted:.3g} times the tolerance after {steps} steps: raise "
                             "max_steps or tolerance, or keep fewer samples")  # fmt: skip
        graph, dual = _watched(graph, dual, values, pairs, alpha)
        values, dual, stiffness = _descend(graph, dual, values, targets, mass, stiffness)
        steps += _CHECK


@dataclass(frozen=True, kw_only=True)
class _Graph:
    """The pairs under watch.

    Attributes:
        pairs: ``i < j``, shape ``(k, 2)``.
        weights: ``1 / (alpha ||x_i - x_j||)``, shape ``(k,)``.
        incidence: A, sparse, shape ``(k, n)``.
    """

    pairs: Array
    weights: Array
    incidence: sparse.csr_matrix

    @classmethod
    def of(cls, pairs: Pairs, chosen: Array, alpha: float) -> _Graph:
        weights = 1 / (alpha * pairs.distances[chosen[:, 0], chosen[:, 1]])
        rows = np.arange(len(chosen))
        entries = np.concatenate((weights, -weights)), (np.tile(rows, 2), chosen.T.ravel())
        incidence = sparse.csr_matrix(entries, shape=(len(chosen), len(pairs.distances)))
        return cls(pairs=chosen, weights=weights, incidence=incidence)


def _watched(graph: _Graph, dual: Array, values: Array, pairs: Pairs, alpha: float) -> tuple[_Graph, Array]:
    """The graph without its slack pairs and with the violated ones, and the multipliers that go with it."""
    length = np.linalg.norm(graph.incidence @ values, axis=1)
    kept = (np.linalg.norm(dual, axis=1) > 0) | (length > _KEPT)
    old, found = graph.pairs[kept], pairs.violated(values, alpha, _EACH)
    new = found[~np.isin(_keys(found, len(values)), _keys(old, len(values)))]
    grown = np.concatenate((dual[kept], np.zeros((len(new), dual.shape[1]))))
    return _Graph.of(pairs, np.concatenate((old, new)), alpha), grown


def _keys(pairs: Array, size: int) -> Array:
    return pairs[:, 0] * size + pairs[:, 1]


def _descend(graph: _Graph, dual: Array, values: Array, targets: Array, mass: Array,
             stiffness: float) -> tuple[Array, Array, float]:  # fmt: skip
    """`_CHECK` steps of the alternating direction method; also the stiffness that balances its residuals."""
    incidence, transposed = graph.incidence, graph.incidence.T.tocsr()
    laplacian = (transposed @ incidence).toarray()
    poisson = np.linalg.inv(np.diag(2 * mass) + stiffness * laplacian)
    pull = 2 * mass[:, None] * targets
    scaled, split = dual / stiffness, _onto_balls(incidence @ values)
    stretched, moved = split, split
    for _ in range(_CHECK):
        values = poisson @ (pull + stiffness * (transposed @ (split - scaled)))
        stretched = incidence @ values
        aimed = _RELAXATION * stretched + (1 - _RELAXATION) * split + scaled
        projected = _onto_balls(aimed)
        scaled, moved, split = aimed - projected, projected - split, projected
    primal = _relative(stretched - split, stretched)
    change = _relative(transposed @ moved, transposed @ scaled)
    ratio = np.sqrt(primal / max(change, 1e-12))
    balanced = stiffness * float(np.clip(ratio, 0.2, 5.0)) if not 0.5 <= ratio <= 2.0 else stiffness
    return values, stiffness * scaled, balanced


def _onto_balls(rows: Array) -> Array:
    """Each row, shortened to length 1 if it is longer."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1.0)


def _relative(difference: Array, size: Array) -> float:
    return float(np.linalg.norm(difference) / max(np.linalg.norm(size), 1e-300))


def _shrunk(values: Array, mass: Array, excess: float) -> Array:
    """The values drawn towards their mean until the steepest pair, `excess` times too steep, keeps the bound."""
    if excess <= 1.0:
        return values
    centre = mass @ values
    return centre + (values - centre) / excess


def _risk(mass: Array, values: Array, targets: Array) -> float:
    return float(mass @ ((values - targets) ** 2).sum(axis=1))


def _dual_value(mass: Array, targets: Array, graph: _Graph, dual: Array) -> float:
    """``max_t min_v sum mu ||v - u||^2 + t y . A v - t sum ||y_e||``, at most the risk of any feasible v."""
    pull = graph.incidence.T @ dual
    linear = float((pull * targets).sum() - np.linalg.norm(dual, axis=1).sum())
    curved = float(((pull**2).sum(axis=1) / (4 * mass)).sum())
    return 0.25 * max(linear, 0.0) ** 2 / curved if curved > 0 else 0.0
