r"""Kirszbraun's theorem as a formula: the extension of vector values without loss in the constant.

Azagra, Le Gruyer and Mudarra (2018, arXiv 1810.10288; abstract read) give an extension as the gradient of a convex
envelope, ``F = grad_y conv(g)(., 0)`` with
``g(x, y) = min_i (<v_i, y> + M/2 ||(x - x_i, y)||^2) + M/2 ||(x, y)||^2``. For n data points the envelope is a small
convex problem a query (derived here): with weights theta on the simplex, ``F(x) = sum theta_i v_i``, where theta
minimises

    J(theta) = ||C theta||^2 + <l, theta>,   c_i = (x_i, v_i / M),   l_i = ||x_i||^2 - 4 <x_i, x> - ||v_i||^2 / M^2

which is, up to a constant, ``2 ||X - x||^2 + Var_theta(x_i) - Var_theta(v_i) / M^2`` with X the weighted mean of x_i.

**Why F is M-Lipschitz** (derived here), for any data and any convex term added to J that does not depend on the query:
add the optimality conditions of two queries x and x', each tried with the other's theta. With differences written D,
``2 ||DX||^2 + 2 ||DF||^2 / M^2 <= 4 <DX, Dx>``, hence ``||DF||^2 / M^2 <= ||Dx||^2 - ||DX - Dx||^2 <= ||Dx||^2``.
Choosing for each query any point that keeps the bound to the data would *not* do: nothing ties two queries together.

The term added here is the barrier ``-mu sum log theta_i``. It makes F smooth and moves it by at most ``M sqrt(n mu)``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fermo.policies.lipschitz_extension.extension import Extension

BARRIER = 1e-8  # n mu
_CENTRING = 0.2  # of the products' mean, the next target
_STEPS = 35  # most queries converge in 15
_SHARE = 0.995  # of the way to the boundary


class Kirszbraun(Extension):
    """For several outputs; each query's problem is solved by a primal-dual interior-point method, all at once.

    In the dual variables ``y = (s, t)`` the problem is ``min ||s||^2 + t`` subject to ``2 C^T s + t + l >= 0``, with
    theta the multipliers, so it has d + m + 1 unknowns, and ``F = M s`` in the last m rows of C. A query that has not
    converged gives NaN, which nothing downstream accepts.
    """

    def extend(self, query: Tensor) -> Tensor:
        """See `Extension`."""
        points, values = self.points.double(), self.values.double()
        rows = torch.cat((2 * points, 2 * values / self.alpha, torch.ones_like(points[:, :1])), 1)
        offset = points.square().sum(1) - values.square().sum(1) / self.alpha**2 - 4 * query @ points.T
        barrier = BARRIER / len(points)
        with torch.no_grad():
            found = _central_point(rows, offset.detach(), barrier)
        # One Newton step from the solution moves nothing to speak of, but carries the derivative of the solution.
        theta = barrier / (found.slack + offset - offset.detach())
        refined = found.dual + _solve(_factor(rows, found), theta @ rows - _slope(found.dual))
        answer = self.alpha * refined[:, points.shape[1] : -1]
        return torch.where(found.converged(rows, barrier)[:, None], answer, torch.nan)


class _Iterate(NamedTuple):
    """Where the method is, a row a query: ``y`` ``(N, k)``, its slack ``2 C^T s + t + l`` and theta ``(N, n)``."""

    dual: Tensor
    slack: Tensor
    theta: Tensor

    def converged(self, rows: Tensor, barrier: float) -> Tensor:
        """Whether theta times slack is the barrier's, and theta a point of the simplex with its mean at s, ``(N,)``."""
        centred = (self.theta * self.slack / barrier - 1).abs().amax(1) < 1e-2
        return centred & ((self.theta @ rows - _slope(self.dual)).abs().amax(1) < 1e-7)


def _central_point(rows: Tensor, offset: Tensor, barrier: float) -> _Iterate:
    """Theta times slack equal to `barrier` for every data point, by following the path of central points.

    A predictor and corrector would take fewer steps, but cycle on some data.
    """
    theta = torch.full_like(offset, 1 / offset.shape[1])
    centre = 0.5 * (theta @ rows)[:, :-1]
    inner = centre @ rows[:, :-1].T + offset
    lift = 1 - inner.amin(1, keepdim=True)
    at = _Iterate(torch.cat((centre, lift), 1), inner + lift, theta)
    for _ in range(_STEPS):
        product = at.theta * at.slack
        target = torch.clamp_min(_CENTRING * product.mean(1, keepdim=True), barrier)
        step = _step(at, rows, _factor(rows, at), target - product)
        length = _length(at, step)
        at = _Iterate(*(now + length * change for now, change in zip(at, step, strict=True)))
    return at


def _step(at: _Iterate, rows: Tensor, factor: Tensor, product: Tensor) -> _Iterate:
    """Newton's change of all three, such that theta times slack changes by `product` to first order."""
    residual = at.theta @ rows - _slope(at.dual)
    dual = _solve(factor, residual + (product / at.slack) @ rows)
    slack = dual @ rows.T
    return _Iterate(dual, slack, (product - at.theta * slack) / at.slack)


def _length(at: _Iterate, step: _Iterate) -> Tensor:
    """How much of a step keeps slack and theta positive, at most 1, shape ``(N, 1)``."""
    shrinking = torch.maximum(-step.slack / at.slack, -step.theta / at.theta).amax(1, keepdim=True)
    return _SHARE / shrinking.clamp_min(_SHARE)


def _slope(dual: Tensor) -> Tensor:
    """Gradient of ``||s||^2 + t``."""
    return torch.cat((2 * dual[:, :-1], torch.ones_like(dual[:, -1:])), 1)


def _factor(rows: Tensor, at: _Iterate) -> Tensor:
    """Cholesky factors of ``diag(2, .., 2, 0) + rows^T diag(theta / slack) rows``, ``(N, k, k)``, NaN row by row."""
    bowl = torch.full_like(rows[0], 2.0)
    bowl[-1] = 0.0
    return torch.linalg.cholesky_ex(torch.diag(bowl) + (rows.T * (at.theta / at.slack)[:, None]) @ rows).L


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """Systems with these factors, right-hand sides ``(N, k)``."""
    return torch.cholesky_solve(right[..., None], factor)[..., 0]
