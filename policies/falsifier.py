"""Searching for the steepest slope of a map: a lower bound that no valid certificate may fall below."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MIN_DISTANCE = 0.05  # closer pairs would measure float32 rounding instead of slope


def steepest_slope(function: Callable[[Tensor], Tensor], points: Tensor, *, steps: int = 60, rate: float = 0.05,
                   generator: torch.Generator) -> float:  # fmt: skip
    """Largest ``||f(a) - f(b)|| / ||a - b||`` or Jacobian norm found, in l2.

    Projected gradient ascent on pairs that start around `points`, then the exact Jacobian at the ends reached.

    Args:
        function: Maps ``(N, n)`` to ``(N, m)``, row by row.
        points: Where to start, shape ``(N, n)``.
        steps: Of gradient ascent.
        rate: Length of one step, in the input's units.
        generator: Draws the initial pairs.
    """
    first = points.detach().clone()
    second = first + 0.5 * torch.randn(first.shape, generator=generator, dtype=first.dtype).to(first.device)
    best = 0.0
    for _ in range(steps):
        first.requires_grad_(True)
        second.requires_grad_(True)
        slope = _slopes(function(first) - function(second), first - second)
        best = max(best, float(slope.detach().max()))
        gradients = torch.autograd.grad(slope.sum(), (first, second))
        first, second = (_ascend(point, grad, rate) for point, grad in zip((first, second), gradients, strict=True))
        second = first + _at_least(second - first, MIN_DISTANCE)
    return max(best, *(_jacobian_norm(function, ends) for ends in (points.detach(), first, second)))


def _slopes(rise: Tensor, run: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rise.double(), dim=1) / torch.linalg.vector_norm(run.double(), dim=1)


def _ascend(point: Tensor, gradient: Tensor, rate: float) -> Tensor:
    length = torch.linalg.vector_norm(gradient, dim=1, keepdim=True).clamp_min(1e-12)
    return (point + rate * gradient / length).detach()


def _at_least(difference: Tensor, distance: float) -> Tensor:
    length = torch.linalg.vector_norm(difference, dim=1, keepdim=True).clamp_min(1e-12)
    return difference * (distance / length).clamp_min(1.0)


def _jacobian_norm(function: Callable[[Tensor], Tensor], points: Tensor) -> float:
    jacobian = torch.func.vmap(torch.func.jacrev(lambda point: function(point[None])[0]))(points)
    return float(torch.linalg.matrix_norm(jacobian.detach().double(), ord=2).max())
