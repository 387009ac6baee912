"""The two networks that read a window: a perceptron over all of it at once, and a transformer."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fermo.policies.goal_bc.config import PerceptronConfig
from fermo.policies.network import empty_linear, mlp
from fermo.policies.windowed.config import TransformerConfig
from fermo.policies.windowed.network import WindowNetwork
from fermo.policies.windowed.relations import Relations
from fermo.policies.windowed.transformer import Gpt, WindowTransformer, places


class WindowPerceptron(WindowNetwork):
    """Reads the observations of a window and the goal side by side, and answers once, for the last observation.

    Absent observations are zeros, which no observation is by chance.

    Args:
        config: Size.
        relations: What it reads of an observation.
        context: T, observations at most.
        goal_frames: G, 0 without goals.
        goal_size: Elements of a goal that is no observation; None when it is one.
        answer_size: Numbers an answer holds.
        generator: Of the initial weights.
    """

    def __init__(self, config: PerceptronConfig, *, relations: Relations, context: int, goal_frames: int,
                 goal_size: int | None, answer_size: int, generator: torch.Generator) -> None:  # fmt: skip
        super().__init__()
        self.context, self.relations = context, relations
        goal = goal_frames * (relations.observation_size if goal_size is None else goal_size)
        sizes = (context * relations.size + goal, *config.hidden, answer_size)
        self.layers = mlp(sizes, config.activation, generator)

    def forward(self, observations: Tensor, observed: Tensor, goal: Tensor | None) -> Tensor:
        """The answer, shape ``(B, 1, answer_size)``.

        Args:
            observations: Scaled, ``(B, T, observation_size)`` or fewer, the latest last.
            observed: Which of them there were, ``(B, T)`` bool.
            goal: ``(B, G, .)``; None without goals.
        """
        absent = self.context - observations.shape[1]
        window = F.pad(self.relations(observations, goal) * observed[..., None], (0, 0, absent, 0)).flatten(1)
        return self.layers(window if goal is None else torch.cat([window, goal.flatten(1)], dim=1))[:, None]


class ObservationTransformer(WindowTransformer):
    """Reads ``[g_1 .. g_G] [s_1 .. s_T]``, and answers at each observation, knowing nothing later.

    Made from the same arguments as `WindowPerceptron`, but for the size; initial weights have deviation 0.02.
    """

    def __init__(self, config: TransformerConfig, *, relations: Relations, context: int, goal_frames: int,
                 goal_size: int | None, answer_size: int, generator: torch.Generator) -> None:  # fmt: skip
        super().__init__()
        self.goal_frames, self.relations = goal_frames, relations
        self.observation_embedding = empty_linear(relations.size, config.width)
        self.goal_embedding = empty_linear(goal_size, config.width) if goal_size is not None else None
        self.positions = nn.Parameter(torch.empty(goal_frames + context, config.width))
        self.gpt = Gpt(config)
        self.head = empty_linear(config.width, answer_size)
        self._initialise(generator)

    def forward(self, observations: Tensor, observed: Tensor, goal: Tensor | None) -> Tensor:
        """An answer for each observation, shape ``(B, T, answer_size)``; meaningless for absent ones.

        Args:
            observations: Scaled, ``(B, T, observation_size)`` or fewer, the latest last.
            observed: Which of them there were, ``(B, T)`` bool; the latest was.
            goal: ``(B, G, .)``; None without goals.
        """
        states = self.observation_embedding(self.relations(observations, goal))
        states = states + self.positions[self.goal_frames :][places(observed)]
        tokens = torch.cat([*self._goal_tokens(goal), states], dim=1)
        first = tokens.shape[1] - states.shape[1]
        present = torch.cat([observed.new_ones(len(observed), first), observed], dim=1)
        return self.head(self.gpt(tokens, present)[:, first:])
