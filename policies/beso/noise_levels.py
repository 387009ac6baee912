"""Which actions of a training window are noised, and how much."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fermo.policies.beso.objective import Objective

Draw = Callable[[Objective, Tensor], Tensor]
"""Levels ``(B, A)`` for actions ``(B, A, action_size)``, ascending along the window; from torch's current stream."""


def shared(objective: Objective, actions: Tensor) -> Tensor:
    """One level for all actions of a window."""
    return objective.draw_levels((len(actions), 1), actions).expand(actions.shape[:2])


def prefix(objective: Objective, actions: Tensor) -> Tensor:
    """A clean prefix of random length, 0 to A - 1, and one level for the rest."""
    return shared(objective, actions) * ~_clean(actions)


def streaming(objective: Objective, actions: Tensor) -> Tensor:
    """A clean prefix; the rest has one level in half of the windows and rising ones in the others."""
    rising = objective.draw_levels(tuple(actions.shape[:2]), actions).sort(dim=1).values
    alike = torch.rand(len(actions), 1, device=actions.device) < 0.5
    return torch.where(alike, shared(objective, actions), rising) * ~_clean(actions)


def _clean(actions: Tensor) -> Tensor:
    samples, length = actions.shape[:2]
    kept = torch.randint(length, (samples, 1), device=actions.device)
    return torch.arange(length, device=actions.device) < kept


NOISE_LEVELS: dict[str, Draw] = {"shared": shared, "prefix": prefix, "streaming": streaming}
