"""A decoder-only transformer, and the layout of tokens in which it reads observations, goals and noised actions."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fermo.policies.beso.config import TransformerConfig
from fermo.policies.network import empty_linear

INITIAL_STD = 0.02


class Block(nn.Module):
    """Pre-normalised: ``x += attention(norm(x))``, then ``x += perceptron(norm(x))`` with GELU, four times as wide."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.attention_dropout = config.heads, config.attention_dropout
        self.attention_norm, self.perceptron_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value, self.projection = empty_linear(width, 3 * width), empty_linear(width, width)
        self.widen, self.narrow = empty_linear(width, 4 * width), empty_linear(4 * width, width)
        self.dropout = nn.Dropout(config.residual_dropout)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Tokens ``(B, L, width)`` in and out; `mask` ``(B, 1, L, L)`` bool, true where a row may see a column."""
        x = x + self.dropout(self._attention(self.attention_norm(x), mask))
        return x + self.dropout(self.narrow(F.gelu(self.widen(self.perceptron_norm(x)))))

    def _attention(self, x: Tensor, mask: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.query_key_value(x).chunk(3, -1)
        )
        dropout = self.attention_dropout if self.training else 0.0
        seen = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return self.projection(seen.transpose(1, 2).flatten(-2))


class Gpt(nn.Module):
    """A stack of blocks and a last normalisation."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, x: Tensor, present: Tensor) -> Tensor:
        """Causal: a token sees itself and those present before it.

        Args:
            x: Tokens, shape ``(B, L, width)``.
            present: Which tokens may be seen, shape ``(B, L)`` bool; what absent ones give is meaningless but finite.
        """
        length = x.shape[1]
        earlier = torch.ones(length, length, dtype=torch.bool, device=x.device).tril(-1)
        itself = torch.eye(length, dtype=torch.bool, device=x.device)  # or an absent token would see none: NaN
        mask = (earlier & present[:, None, :]) | itself
        for block in self.blocks:
            x = block(x, mask[:, None])
        return self.norm(x)


class ActionTransformer(nn.Module):
    """Noised actions to the network's answer, in the layout ``[sigma] [g_1 .. g_G] [s_1 a_1 .. s_T a_T] [a_T+1 ..]``.

    Everything is scaled. An observation and the action that follows it share a position, counted from the first
    observation that is there; goals have positions of their own, sigma none. Future observations are embedded as goals
    by the layer of the observations. The last tokens are the actions of a chunk beyond its first.

    Args:
        config: Size.
        observation_size: Elements of an observation.
        action_size: Elements of an action.
        context: T, observations at most.
        chunk: H, so that there are at most ``T + H - 1`` actions.
        goal_frames: G, 0 without goals.
        goal_size: Elements of a goal that is no observation; None when it is one.
        level_per_action: Whether each action is told its own noise level.
        generator: Of the initial weights, normal with deviation 0.02.
    """

    def __init__(self, config: TransformerConfig, *, observation_size: int, action_size: int, context: int, chunk: int,
                 goal_frames: int, goal_size: int | None, level_per_action: bool,
                 generator: torch.Generator) -> None:  # fmt: skip
        super().__init__()
        width = config.width
        self.goal_frames = goal_frames
        self.observation_embedding = empty_linear(observation_size, width)
        self.action_embedding = empty_linear(action_size, width)
        self.level_embedding = empty_linear(1, width)
        self.goal_embedding = empty_linear(goal_size, width) if goal_size is not None else None
        self.action_level_embedding = empty_linear(1, width) if level_per_action else None
        self.positions = nn.Parameter(torch.empty(goal_frames + context + chunk - 1, width))
        self.gpt = Gpt(config)
        self.head = empty_linear(width, action_size)
        nn.init.normal_(self.positions, std=INITIAL_STD, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_STD, generator=generator)
                nn.init.zeros_(module.bias)

    def undecayed(self) -> list[nn.Parameter]:
        """What weight decay has no business with: biases, positions and normalisations."""
        matrices = {id(module.weight) for module in self.modules() if isinstance(module, nn.Linear)}
        return [parameter for parameter in self.parameters() if id(parameter) not in matrices]

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
        positions = self.positions[self.goal_frames :][_places(observed, beyond)]
        action_tokens = self.action_embedding(actions) + positions
        if self.action_level_embedding is not None:
            action_tokens = action_tokens + self.action_level_embedding(levels[..., None])
        state_tokens = self.observation_embedding(observations) + positions[:, :steps]
        pairs = torch.stack((state_tokens, action_tokens[:, :steps]), dim=2).flatten(1, 2)
        first = [self.level_embedding(levels[:, -1:, None]), *self._goal_tokens(goal)]
        tokens = torch.cat([*first, pairs, action_tokens[:, steps:]], dim=1)
        always = observed.new_ones(len(observed), sum(token.shape[1] for token in first))
        ahead = observed.new_ones(len(observed), beyond)
        present = torch.cat([always, observed.repeat_interleave(2, dim=1), ahead], dim=1)
        answers = self.gpt(tokens, present)[:, always.shape[1] :]
        return self.head(torch.cat([answers[:, 1 : 2 * steps : 2], answers[:, 2 * steps :]], dim=1))

    def _goal_tokens(self, goal: Tensor | None) -> list[Tensor]:
        if goal is None:
            return []
        embed = self.goal_embedding if self.goal_embedding is not None else self.observation_embedding
        return [embed(goal) + self.positions[: self.goal_frames]]


def _places(observed: Tensor, beyond: int) -> Tensor:
    """Position of each action, ``(B, T + beyond)``: 0 at the first observation that is there, and counting on."""
    counted = (observed.cumsum(1) - 1).clamp_min(0)
    further = torch.arange(1, beyond + 1, device=observed.device)
    return torch.cat([counted, counted[:, -1:] + further], dim=1)
