"""Searching for the steepest slope of a map: a lower bound that no valid certificate may fall below."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]
"""``(N, n)`` to ``(N, m)``, row by row."""

MIN_DISTANCE = 0.05  # closer pairs would measure float32 rounding instead of slope


class Pair(NamedTuple):
    """Two inputs and the slope between them.

    Attributes:
        slope: ``||f(first) - f(second)|| / ||first - second||``, or the norm of the Jacobian at `first`, in l2.
        first: Shape ``(n,)``.
        second: Shape ``(n,)``; for a Jacobian, a short way from `first` along its steepest direction.
    """

    slope: float
    first: Tensor
    second: Tensor


def steepest_slope(function: Map, points: Tensor, *, steps: int = 60, rate: float = 0.05,
                   generator: torch.Generator) -> float:  # fmt: skip
    """The slope that `steepest_pair` finds."""
    return steepest_pair(function, points, steps=steps, rate=rate, generator=generator).slope


def steepest_pair(function: Map, points: Tensor, *, steps: int = 60, rate: float = 0.05,
                  generator: torch.Generator) -> Pair:  # fmt: skip
    """The best of three searches: random pairs, projected ascent on pairs, ascent on the Jacobian's norm.

    Args:
        function: What to search.
        points: Where to start, one restart a row, shape ``(N, n)``.
        steps: Of gradient ascent.
        rate: Length of one step, in the input's units.
        generator: Draws the initial pairs.
    """
    points = points.detach()
    noise = 0.5 * torch.randn(points.shape, generator=generator, dtype=points.dtype).to(points.device)
    pairs = ascend_pairs(function, points, points + noise, steps=steps, rate=rate)
    tops = [ascend_jacobian(function, ends, steps=count, rate=rate)
            for ends, count in ((points, steps // 2), (pairs.first[None], 0), (pairs.second[None], 0))]  # fmt: skip
    return max([random_pairs(function, points, generator=generator), pairs, *tops], key=lambda pair: pair.slope)


def random_pairs(function: Map, points: Tensor, *, generator: torch.Generator) -> Pair:
    """Each point with a partner in a random direction, at a random distance between `MIN_DISTANCE` and a few units."""
    direction = torch.randn(points.shape, generator=generator, dtype=points.dtype).to(points.device)
    reach = torch.rand(len(points), 1, generator=generator, dtype=points.dtype).to(points.device)
    unit = direction / torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    partners = points + unit * MIN_DISTANCE * 100**reach
    with torch.no_grad():
        return _steepest(_slopes(function, points, partners), points, partners)


def ascend_pairs(function: Map, first: Tensor, second: Tensor, *, steps: int, rate: float) -> Pair:
    """Gradient ascent on the slope between two free points, kept `MIN_DISTANCE` apart (PGD on pairs)."""
    best = Pair(0.0, first[0], second[0])
    for _ in range(steps):
        second = first + _at_least(second - first, MIN_DISTANCE)
        first, second = first.detach().requires_grad_(True), second.detach().requires_grad_(True)
        slopes = _slopes(function, first, second)
        best = max(best, _steepest(slopes, first, second), key=lambda pair: pair.slope)
        gradients = torch.autograd.grad(slopes.sum(), (first, second))
        first, second = (_ascend(point, grad, rate) for point, grad in zip((first, second), gradients, strict=True))
    return best


def ascend_jacobian(function: Map, points: Tensor, *, steps: int, rate: float) -> Pair:
    """Gradient ascent on ``||J(x)||``, the exact Jacobian's largest singular value at the best point reached.

    The gradient is that of ``||J(x) v||`` with v the current largest right singular vector. For piecewise linear maps
    it vanishes, and the search ends with the points' own Jacobians.
    """
    best = Pair(0.0, points[0], points[0])
    for step in range(steps + 1):
        jacobian = torch.func.vmap(torch.func.jacrev(lambda point: function(point[None])[0]))(points).detach()
        _, norms, directions = torch.linalg.svd(jacobian.double(), full_matrices=False)
        steepest = directions[:, 0].to(points.dtype)
        best = max(best, _steepest(norms[:, 0], points, points + MIN_DISTANCE * steepest), key=lambda pair: pair.slope)
        gradient = _stretch_gradient(function, points, steepest) if step < steps else torch.zeros_like(points)
        if not gradient.any():
            break
        points = _ascend(points, gradient, rate)
    return best


def _stretch_gradient(function: Map, points: Tensor, directions: Tensor) -> Tensor:
    points = points.detach().requires_grad_(True)
    stretched = torch.func.jvp(function, (points,), (directions,))[1]
    (gradient,) = torch.autograd.grad(torch.linalg.vector_norm(stretched, dim=1).sum(), points, allow_unused=True)
    return torch.zeros_like(points) if gradient is None else gradient


def _slopes(function: Map, first: Tensor, second: Tensor) -> Tensor:
    rise, run = function(first) - function(second), first - second
    return torch.linalg.vector_norm(rise.double(), dim=1) / torch.linalg.vector_norm(run.double(), dim=1)


def _steepest(slopes: Tensor, first: Tensor, second: Tensor) -> Pair:
    top = int(slopes.detach().argmax())
    return Pair(float(slopes[top].detach()), first[top].detach(), second[top].detach())


def _ascend(point: Tensor, gradient: Tensor, rate: float) -> Tensor:
    length = torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(1e-12)
    return (point + rate * gradient / length).detach()


def _at_least(difference: Tensor, distance: float) -> Tensor:
    length = torch.linalg.vector_norm(difference, dim=1, keepdim=True).clamp_min(1e-12)
    return difference * (distance / length).clamp_min(1.0)
