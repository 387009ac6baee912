"""The mean action, which lies between the ways where there are several."""

from __future__ import annotations

from torch import Tensor

from fermo.policies.goal_bc.config import GoalBcConfig
from fermo.policies.goal_bc.head import Head
from fermo.policies.windowed.world_noise import Noise


class Regression(Head):
    """The numbers are the chunk; their squared error is lowered."""

    def __init__(self, config: GoalBcConfig, action_size: int) -> None:
        super().__init__(config, action_size)
        self.size = self.chunk * action_size

    def errors(self, answers: Tensor, actions: Tensor, counted: Tensor) -> Tensor:
        """Mean squared error over the actions there are."""
        squared = (self._chunks(answers) - actions).square().mean(-1)
        return (squared * counted).sum(-1) / counted.sum(-1).clamp_min(1)

    def act(self, answers: Tensor, noise: Noise) -> Tensor:
        """The numbers; no noise."""
        return self._chunks(answers)

    def _chunks(self, answers: Tensor) -> Tensor:
        return answers.unflatten(-1, (self.chunk, self.action_size))
