"""A perceptron that reads a window, a goal and noised actions side by side."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fermo.policies.network import mlp
from fermo.policies.windowed.config import PerceptronConfig
from fermo.policies.windowed.network import WindowNetwork
from fermo.policies.windowed.relations import Relations


class ActionPerceptron(WindowNetwork):
    """Noised actions to the network's answer, as `ActionTransformer`, but every answer may hang on every action.

    Absent observations are zeros, which no observation is by chance, and so are the actions before the first one.

    Args:
        config: Size.
        relations: What it reads of an observation.
        action_size: Elements of an action.
        context: T, observations at most.
        chunk: H, so that there are at most ``T + H - 1`` actions.
        goal_frames: G, 0 without goals.
        goal_size: Elements of a goal that is no observation; None when it is one.
        generator: Of the initial weights.
    """

    def __init__(self, config: PerceptronConfig, *, relations: Relations, action_size: int, context: int, chunk: int,
                 goal_frames: int, goal_size: int | None, generator: torch.Generator) -> None:  # fmt: skip
        super().__init__()
        self.relations, self.context, self.actions = relations, context, context + chunk - 1
        goal = goal_frames * (relations.observation_size if goal_size is None else goal_size)
        read = context * relations.size + self.actions * (action_size + 1) + goal
        self.layers = mlp((read, *config.hidden, self.actions * action_size), config.activation, generator)

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        last = self.layers[-1]
        assert isinstance(last, nn.Linear)
        return last

    def forward(self, actions: Tensor, levels: Tensor, observations: Tensor, observed: Tensor,
                goal: Tensor | None) -> Tensor:  # fmt: skip
        """The network's answer for each action, ``(B, A, action_size)``; arguments as of `ActionTransformer`."""
        absent = self.actions - actions.shape[1]
        states = self.relations(observations, goal) * observed[..., None]
        acted = F.pad(observed, (0, actions.shape[1] - observations.shape[1]), value=True)[..., None]
        parts = [F.pad(part, (0, 0, absent, 0)) for part in (states, actions * acted, levels[..., None] * acted)]
        read = torch.cat([part.flatten(1) for part in (*parts, *([] if goal is None else [goal]))], dim=1)
        return self.layers(read).unflatten(1, (self.actions, -1))[:, absent:]
