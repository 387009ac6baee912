"""The layout of tokens in which a transformer reads observations, goals and noised actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fermo.policies.network import empty_linear
from fermo.policies.windowed.config import TransformerConfig
from fermo.policies.windowed.relations import Relations
from fermo.policies.windowed.transformer import Gpt, WindowTransformer, places


class ActionTransformer(WindowTransformer):
    """Noised actions to the network's answer, in the layout ``[sigma] [g_1 .. g_G] [s_1 a_1 .. s_T a_T] [a_T+1 ..]``.

    Everything is scaled. An observation and the action that follows it share a position, counted from the first
    observation that is there; goals have positions of their own, sigma none. Future observations are embedded as goals
    by the layer of the observations. The last tokens are the actions of a chunk beyond its first.

    Args:
        config: Size.
        relations: What it reads of an observation.
        action_size: Elements of an action.
        context: T, observations at most.
        chunk: H, so that there are at most ``T + H - 1`` actions.
        goal_frames: G, 0 without goals.
        goal_size: Elements of a goal that is no observation; None when it is one.
        level_per_action: Whether each action is told its own noise level.
        generator: Of the initial weights, normal with deviation 0.02.
    """

    def __init__(self, config: TransformerConfig, *, relations: Relations, action_size: int, context: int, chunk: int,
                 goal_frames: int, goal_size: int | None, level_per_action: bool,
                 generator: torch.Generator) -> None:  # fmt: skip
        super().__init__()
        width = config.width
        self.goal_frames, self.relations = goal_frames, relations
        self.observation_embedding = empty_linear(relations.size, width)
        self.action_embedding = empty_linear(action_size, width)
        self.level_embedding = empty_linear(1, width)
        self.goal_embedding = empty_linear(goal_size, width) if goal_size is not None else None
        self.action_level_embedding = empty_linear(1, width) if level_per_action else None
        self.positions = nn.Parameter(torch.empty(goal_frames + context + chunk - 1, width))
        self.gpt = Gpt(config)
        self.head = empty_linear(width, action_size)
        self._initialise(generator)

    def forward(self, actions: Tensor, levels: Tensor, observations: Tensor, observed: Tensor,
                goal: Tensor | None) -> Tensor:  # fmt: skip
        """The network's answer for each action, shape ``(B, A, action_size)``.

        Args:
            actions: Scaled noised actions, ``(B, A, action_size)`` with ``A = T + H - 1``; number T - 1 is the one to
                take now.
            levels: What the network is told of each action's noise, ``(B, A)``; the last stands for the window's.
            observations: ``(B, T, observation_size)``, the latest last.
            observed: Which of them there were, ``(B, T)`` bool; the latest was.
            goal: ``(B, G, .)``; None without goals.
        """
        steps, beyond = observations.shape[1], actions.shape[1] - observations.shape[1]
        positions = self.positions[self.goal_frames :][places(observed, beyond)]
        action_tokens = self.action_embedding(actions) + positions
        if self.action_level_embedding is not None:
            action_tokens = action_tokens + self.action_level_embedding(levels[..., None])
        state_tokens = self.observation_embedding(self.relations(observations, goal)) + positions[:, :steps]
        pairs = torch.stack((state_tokens, action_tokens[:, :steps]), dim=2).flatten(1, 2)
        first = [self.level_embedding(levels[:, -1:, None]), *self._goal_tokens(goal)]
        tokens = torch.cat([*first, pairs, action_tokens[:, steps:]], dim=1)
        always = observed.new_ones(len(observed), sum(token.shape[1] for token in first))
        ahead = observed.new_ones(len(observed), beyond)
        present = torch.cat([always, observed.repeat_interleave(2, dim=1), ahead], dim=1)
        answers = self.gpt(tokens, present)[:, always.shape[1] :]
        return self.head(torch.cat([answers[:, 1 : 2 * steps : 2], answers[:, 2 * steps :]], dim=1))
