"""Projected gradient ascent in a box, every world on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

STEPS = 10
"""Gradient steps."""

STEP_FRACTION = 0.25
"""Length of a step over the radius, 2.5 / STEPS: enough to cross the box from any start (Madry et al., ICLR 2018)."""


def projected_ascent(gain: Callable[[Tensor], Tensor], radius: Tensor, start: Tensor) -> Tensor:
    """The best of all iterates of sign steps within ``|delta| <= radius``, shape of `start`.

    Works inside a rollout without gradients, in inference mode too: tensors that `gain` closes over must have been made
    outside it, or be cloned by it.

    Args:
        gain: Shifts ``(N, ...)`` to what each world gains, ``(N,)``, differentiable and row by row.
        radius: Half widths of the box, broadcast against `start`.
        start: First iterate, ``(N, ...)``, inside the box.
    """
    with torch.inference_mode(False), torch.enable_grad():
        radius, delta = radius.clone(), start.clone()
        best, best_gain = delta, delta.new_full((len(delta),), -torch.inf)
        for step in range(STEPS + 1):
            delta = delta.detach().requires_grad_(step < STEPS)
            gained = gain(delta)
            better = gained.detach() > best_gain
            best = torch.where(better.view(-1, *[1] * (delta.ndim - 1)), delta.detach(), best)
            best_gain = torch.where(better, gained.detach().to(best_gain), best_gain)
            if step < STEPS:
                (slope,) = torch.autograd.grad(gained.sum(), delta)
                delta = (delta.detach() + STEP_FRACTION * radius * slope.sign()).clamp(-radius, radius)
    return best
