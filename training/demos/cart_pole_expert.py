"""The scripted expert for CartPole: the regulator that is optimal for the task's own cost, linearised upright."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from fermo.controllers.lqr import Lqr, solve_lqr
from fermo.envs.tasks.cart_pole import CartPole
from fermo.training.guarantee.linearize import linearize


class CartPoleExpert:
    """Force from observations, batched.

    Args:
        task: Whose model, signals and cost to use.
    """

    def __init__(self, task: CartPole) -> None:
        upright = linearize(task, np.zeros(4), np.zeros(1))
        cost = np.diag(task.config.state_cost), np.array([[task.config.force_cost]])
        self.K = solve_lqr(upright.A, upright.B, *cost).K
        self.slices = task.spec.observation_slices()
        self.lqr = Lqr(self.K, signals=tuple(self.slices))  # observed in the order of the state
        self.low, self.high = task.low, task.high

    def __call__(self, obs: Tensor) -> Tensor:
        """Force ``(N, 1)`` [N] for observations ``(N, 4)``."""
        state = {name: obs[:, where].to(torch.float64) for name, where in self.slices.items()}
        goal = torch.zeros(len(obs), 4, dtype=torch.float64)
        return self.lqr.command(goal, state).clamp(self.low, self.high)
