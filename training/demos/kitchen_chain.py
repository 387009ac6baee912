"""In which orders four of the kitchen's sub-tasks are demonstrated: a fixed Markov chain that never comes back."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.tasks.franka_kitchen_metrics import NAMES

LENGTH = 4
"""Sub-tasks in a demonstration."""

START: dict[str, float] = {
    "microwave": 0.45, "kettle": 0.3, "bottom burner": 0.1, "top burner": 0.05, "light switch": 0.1,
}  # fmt: skip
TRANSITIONS: dict[str, dict[str, float]] = {
    "microwave": {"kettle": 0.5, "bottom burner": 0.2, "top burner": 0.05, "light switch": 0.15, "slide cabinet": 0.1},
    "kettle": {"microwave": 0.1, "bottom burner": 0.45, "top burner": 0.2, "light switch": 0.15, "slide cabinet": 0.1},
    "bottom burner": {"kettle": 0.1, "top burner": 0.4, "light switch": 0.3, "slide cabinet": 0.1,
                      "hinge cabinet": 0.1},
    "top burner": {"bottom burner": 0.1, "light switch": 0.45, "slide cabinet": 0.25, "hinge cabinet": 0.2},
    "light switch": {"top burner": 0.15, "slide cabinet": 0.6, "hinge cabinet": 0.25},
    "slide cabinet": {"bottom burner": 0.1, "top burner": 0.1, "light switch": 0.25, "hinge cabinet": 0.55},
    "hinge cabinet": {},
}  # fmt: skip
"""What follows what. The hinged cabinet comes last: its open door hangs before the others' handles."""


@functools.cache
def order_probabilities() -> tuple[Tensor, Tensor]:
    """Every order that is shown, ``(K, 4)`` int64 of sub-tasks' numbers, and how often, ``(K,)`` float64.

    They are those of the chain given that it visits four different sub-tasks.
    """
    start = torch.tensor([START.get(name, 0.0) for name in NAMES], dtype=torch.float64)
    follow = torch.tensor([[TRANSITIONS[name].get(other, 0.0) for other in NAMES] for name in NAMES],
                          dtype=torch.float64)  # fmt: skip
    orders = torch.tensor(list(itertools.permutations(range(len(NAMES)), LENGTH)))
    weight = start[orders[:, 0]] * follow[orders[:, :-1], orders[:, 1:]].prod(dim=1)
    shown = weight > 0.0
    return orders[shown], weight[shown] / weight.sum()


def draw_orders(random: WorldRandom) -> Tensor:
    """The orders of the present episodes of `random`, ``(N, 4)`` int64."""
    orders, probability = order_probabilities()
    drawn = torch.searchsorted(probability.cumsum(dim=0), random.uniform("expert order"))
    return orders[drawn.clamp_max(len(orders) - 1)]


def transition_shares(orders: Tensor, weights: Tensor) -> Tensor:
    """How often sub-task j follows i, as a share of demonstrations, ``(8, 7)``; in the last row, how often j is first.

    Args:
        orders: Shape ``(K, 4)`` int64.
        weights: Of the orders, shape ``(K,)`` float64.
    """
    n = len(NAMES)
    before = torch.nn.functional.pad(orders[:, :-1], (1, 0), value=n)
    shares = torch.zeros((n + 1) * n, dtype=torch.float64)
    shares.index_add_(0, (before * n + orders).flatten(), weights[:, None].expand_as(orders).flatten())
    return shares.reshape(n + 1, n) / weights.sum()
