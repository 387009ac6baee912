"""A decoder-only transformer, and what the layouts of tokens share in which it reads a window."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fermo.policies.network import empty_linear
from fermo.policies.windowed.config import TransformerConfig
from fermo.policies.windowed.network import WindowNetwork

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


class WindowTransformer(WindowNetwork):
    """What the layouts share: an observation's tokens stand at a position that counts from the first one there is.

    Goals come before all and have positions of their own. Future observations are embedded as goals by the layer of the
    observations.

    Attributes:
        goal_frames: G, 0 without goals.
        observation_embedding: Of observations, and of goals that are such.
        goal_embedding: Of other goals; None without them.
        positions: Of the goals and then of the window, shape ``(G + T + H - 1, width)`` or shorter.
        gpt: The stack.
    """

    goal_frames: int
    observation_embedding: nn.Linear
    goal_embedding: nn.Linear | None
    positions: nn.Parameter
    gpt: Gpt

    def _initialise(self, generator: torch.Generator) -> None:
        """Positions, and then the layers in their order, normal with deviation 0.02; biases zero."""
        nn.init.normal_(self.positions, std=INITIAL_STD, generator=generator)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INITIAL_STD, generator=generator)
                nn.init.zeros_(module.bias)

    def _goal_tokens(self, goal: Tensor | None) -> list[Tensor]:
        if goal is None:
            return []
        positions = self.positions[: self.goal_frames]
        if self.goal_embedding is not None:
            return [self.goal_embedding(goal) + positions]
        return [self.observation_embedding(self.relations.as_observations(goal)) + positions]


def places(observed: Tensor, beyond: int = 0) -> Tensor:
    """Position of each action, ``(B, T + beyond)``: 0 at the first observation that is there, and counting on."""
    counted = (observed.cumsum(1) - 1).clamp_min(0)
    further = torch.arange(1, beyond + 1, device=observed.device)
    return torch.cat([counted, counted[:, -1:] + further], dim=1)
