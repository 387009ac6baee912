r"""LipSDP-neuron (Fazlyab et al. 2019) by a Newton method of our own: the tightest bound this room knows.

Minimise sum_i r_i subject to M(r, l) >= 0 and l >= 0, with M the quadratic form of
`fermo.policies.certificates.check_certificate`::

    M(r, l) = diag(r, 0) - C^T C - sum_j l_j (a_j b_j^T + b_j a_j^T)

General conic solvers carry M as a cone of n (n + 1) / 2 numbers and need minutes at 128 neurons. Here the barrier
``t sum r - log det M - sum_j log l_j`` is minimised in (r, l) alone. As l_j enters with rank 2, its Hessian is made of
Hadamard products of A^T G A, A^T G B and B^T G B with G = M^-1, and a step costs O(n^3).

Every iterate is feasible, hence a proof: a search that stops early gives a looser bound, never a wrong one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, solve_triangular
from threadpoolctl import threadpool_limits

from fermo.errors import FermoError
from fermo.policies.certificates.check_certificate import Array, Forms, quadratic_form

INTERIOR = 1.5  # a feasible start times this lies well inside
FIRST_SHARPNESS = 4.0  # the first t, times neurons per r: the start is seldom more than a few times the optimum
NEAR, FAR = 0.5, 10.0  # Newton decrement at which a point counts as centred, and to which the next t raises it
LEAST = 1e-60  # bounds below it, or above its inverse, have powers that float64 cannot hold
SUFFICIENT = 0.1  # of the decrease that the slope promises (Armijo)


class SearchFailed(FermoError):  # noqa: N818  a reason, which the certificate names
    """The search could not begin; says why."""


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """When the search may stop.

    Attributes:
        tolerance: Duality gap of the last centre, relative to sum r; the Schur complement that follows a search leaves
            a small part of it.
        max_steps: Newton steps.
        max_seconds: Wall time [s]; where it cuts a search short, the bound depends on the machine's speed.
    """

    tolerance: float = 1e-3
    max_steps: int = 120
    max_seconds: float = math.inf

    def __post_init__(self) -> None:
        if not (0 < self.tolerance < 1 and self.max_steps >= 0 and self.max_seconds >= 0):
            raise FermoError(f"a search needs 0 < tolerance < 1 and limits that are not negative, got {self}")


DEFAULT_SEARCH = SearchConfig()


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """Where the search stopped; feasible whatever `ended` says.

    Attributes:
        input_multipliers: r, shape ``(inputs,)``.
        multipliers: l, shape ``(neurons,)``.
        steps: Newton steps taken.
        ended: ``"converged"``, or why not.
    """

    input_multipliers: Array
    multipliers: Array
    steps: int
    ended: str


@threadpool_limits.wrap(limits=1, user_api="blas")  # on small matrices its threads spend their time on waiting
def search(forms: Forms, starts: Sequence[tuple[float, Array]], *, shared: bool = True,
           config: SearchConfig = DEFAULT_SEARCH) -> SearchResult:  # fmt: skip
    """Minimise sum r (r itself where it is shared) by a path-following Newton method.

    Args:
        forms: Of the network.
        starts: Bounds L with their joined multipliers; the first that proves to be feasible is taken.
        shared: One r for all inputs (a Lipschitz constant), or one for each (the best diagonal scaling).
        config: When to stop.

    Raises:
        SearchFailed: No start is feasible in floating point.
    """
    barrier = _Barrier(forms, shared)
    point, factor = _first_feasible(barrier, starts)
    begun, sharpness, steps = time.monotonic(), 0.0, 0
    while True:
        if steps == config.max_steps or time.monotonic() - begun > config.max_seconds:
            return barrier.result(point, steps, f"stopped after {steps} steps")
        try:
            model = barrier.newton_model(point, factor)
            sharpness = model.next_sharpness(sharpness, barrier.size, float(barrier.cost @ point), config.tolerance)
            if model.decrement(sharpness) < NEAR:
                return barrier.result(point, steps, "converged")
            point, factor = _descend(barrier, point, factor, sharpness, model)
        except LinAlgError:
            return barrier.result(point, steps, f"Newton's system lost definiteness at step {steps}")
        steps += 1


def _first_feasible(barrier: _Barrier, starts: Sequence[tuple[float, Array]]) -> tuple[Array, Array]:
    for bound, multipliers in starts:
        if not LEAST < bound < 1 / LEAST:
            continue
        point = barrier.point(INTERIOR * bound**2, INTERIOR * multipliers)
        factor = barrier.factor(point)
        if factor is not None:
            return point, factor
    raise SearchFailed("no start is strictly feasible in float64")  # a constant network's, for one


def _descend(barrier: _Barrier, point: Array, factor: Array, sharpness: float,
             model: _NewtonModel) -> tuple[Array, Array]:  # fmt: skip
    """The point a backtracking line search finds along Newton's step, with its factor."""
    step, slope = model.step(sharpness), model.decrement(sharpness) ** 2
    value, length = barrier.value(point, factor, sharpness), 1.0
    while length > 1e-9:
        moved = point + length * step
        fresh = barrier.factor(moved)
        if fresh is not None and barrier.value(moved, fresh, sharpness) <= value - SUFFICIENT * length * slope:
            return moved, fresh
        length /= 2
    raise LinAlgError("no descent along Newton's step")


class _NewtonModel:
    """Newton's step for every t at once: it is affine in t, and its squared decrement quadratic."""

    def __init__(self, cost: Array, gradient: Array, hessian: Array) -> None:
        factor = cho_factor(hessian)
        self._along, self._centring = -cho_solve(factor, np.stack((cost, gradient), axis=1)).T
        self._square = (-(cost @ self._along), -(cost @ self._centring), -(gradient @ self._centring))

    def step(self, sharpness: float) -> Array:
        return sharpness * self._along + self._centring

    def decrement(self, sharpness: float) -> float:
        square, half, constant = self._square
        return math.sqrt(max(sharpness**2 * square + 2 * sharpness * half + constant, 0.0))

    def next_sharpness(self, sharpness: float, size: int, objective: float, tolerance: float) -> float:
        """The t to go on with: raised once its centre is near, and never beyond what the tolerance needs.

        At the centre of t the duality gap is ``size / t``.
        """
        sharpness = sharpness or FIRST_SHARPNESS * size / objective
        enough = size / (tolerance * objective)
        if self.decrement(sharpness) >= NEAR or sharpness >= enough:
            return sharpness
        square, half, constant = self._square
        return min((-half + math.sqrt(half**2 - square * (constant - FAR**2))) / square, enough)


class _Barrier:
    """``t cost^T p - log det M(p) - sum_j log l_j`` over points p = (r, l)."""

    def __init__(self, forms: Forms, shared: bool) -> None:
        self.forms, self.size = forms, sum(forms.a.shape)  # the barrier's parameter is neurons + n
        self.groups = np.ones((forms.inputs, 1)) if shared else np.eye(forms.inputs)  # r of each input from p's first
        self.count = self.groups.shape[1]
        self.cost = np.concatenate((np.ones(self.count), np.zeros(len(forms.a))))

    def point(self, square: float, multipliers: Array) -> Array:
        return np.concatenate((np.full(self.count, square), multipliers))

    def result(self, point: Array, steps: int, ended: str) -> SearchResult:
        r, multipliers = np.split(point, [self.count])
        return SearchResult(input_multipliers=self.groups @ r, multipliers=multipliers, steps=steps, ended=ended)

    def factor(self, point: Array) -> Array | None:
        """Lower Cholesky factor of M, or None outside the feasible set."""
        r, multipliers = np.split(point, [self.count])
        if multipliers.min() <= 0:
            return None
        try:
            return cholesky(quadratic_form(self.forms, self.groups @ r, multipliers), lower=True)
        except LinAlgError:
            return None

    def value(self, point: Array, factor: Array, sharpness: float) -> float:
        logarithms = 2 * np.log(np.diag(factor)).sum() + np.log(point[self.count :]).sum()
        return float(sharpness * (self.cost @ point) - logarithms)

    def newton_model(self, point: Array, factor: Array) -> _NewtonModel:
        """Gradient and Hessian, with K = F^-1 (.) for M = F F^T, so that A^T G B = K_A^T K_B."""
        neurons, inputs, multipliers = len(self.forms.a), self.forms.inputs, point[self.count :]
        columns = np.concatenate((np.eye(inputs, len(factor)), self.forms.a, self.forms.b)).T
        solved = solve_triangular(factor, columns, lower=True, check_finite=False)
        k_input, k_a, k_b = np.split(solved, [inputs, inputs + neurons], axis=1)
        among_inputs, a_b = k_input.T @ k_input, k_a.T @ k_b
        gradient = np.concatenate((-np.diag(among_inputs) @ self.groups, 2 * np.diag(a_b) - 1 / multipliers))
        mixed = -2 * self.groups.T @ ((k_input.T @ k_a) * (k_input.T @ k_b))
        hessian = np.empty((len(point), len(point)))
        hessian[: self.count, : self.count] = self.groups.T @ among_inputs**2 @ self.groups
        hessian[: self.count, self.count :], hessian[self.count :, : self.count] = mixed, mixed.T
        hessian[self.count :, self.count :] = 2 * ((k_a.T @ k_a) * (k_b.T @ k_b) + a_b * a_b.T)
        hessian[self.count :, self.count :] += np.diag(multipliers**-2)
        return _NewtonModel(self.cost, gradient, hessian)
