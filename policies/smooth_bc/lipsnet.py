"""LipsNet: a network divided by the norm of its own Jacobian."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fermo.policies.lipschitz_bc.network import FixedBound, LearnedBound
from fermo.policies.network import GroupSort
from fermo.policies.one_step import OneStepPolicy
from fermo.policies.smooth_bc.method import Method

EPSILON = 1e-4


class LipsNetwork(nn.Module):
    """``z -> K f(z) / (||J_f(z)||_F + epsilon)`` (Song et al. 2023, *LipsNet: A Smooth and Robust Neural Network*).

    Where f is linear around z, the slope is at most K. From one linear piece to the next K bounds nothing: f is
    continuous across them and its Jacobian is not, so with relu or groupsort the quotient jumps.

    Attributes:
        perceptron: f.
        k: Gives K, a scalar.
    """

    def __init__(self, perceptron: nn.Sequential, k: FixedBound | LearnedBound) -> None:
        super().__init__()
        self.perceptron = perceptron
        self.k = k

    def forward(self, value: Tensor) -> Tensor:
        """Shape ``(N, n)`` to ``(N, m)``."""
        output, jacobian = with_jacobian(self.perceptron, value)
        norm = torch.linalg.vector_norm(jacobian, dim=(1, 2))[:, None]
        return self.k() * output / (norm + EPSILON)


class LipsNet(Method):
    """``L = K^2`` around a `LipsNetwork`, which keeps a learned K small; a constant where K is fixed."""

    def network(self, perceptron: nn.Sequential) -> nn.Module:
        """See `Method`."""
        return LipsNetwork(perceptron, LearnedBound() if self.config.k is None else FixedBound(self.config.k))

    def penalty(self, policy: OneStepPolicy, batch: Mapping[str, Tensor]) -> Tensor:
        """See `Method`."""
        assert isinstance(policy.network, LipsNetwork)
        return policy.network.k().square()


def with_jacobian(perceptron: nn.Sequential, value: Tensor) -> tuple[Tensor, Tensor]:
    """A perceptron's output, ``(N, m)``, and its Jacobian, ``(N, m, n)``, both differentiable in the weights.

    The rows are carried backwards from the output, as there are fewer commands than observations, by operations that
    can be exported.
    """
    reached = []
    for layer in perceptron:
        reached.append(value)
        value = layer(value)
    rows = torch.eye(value.shape[1], dtype=value.dtype, device=value.device)  # the first activation spreads them over N
    for layer, before in zip(reversed(perceptron), reversed(reached), strict=True):
        rows = rows @ layer.weight if isinstance(layer, nn.Linear) else _through(layer, before, rows)
    return value, rows


def _through(activation: nn.Module, before: Tensor, rows: Tensor) -> Tensor:
    """``rows @ J`` for the Jacobian J of an activation at `before`; J is symmetric for all three."""
    if isinstance(activation, GroupSort):
        first, second = before.chunk(2, -1)
        one, other = rows.chunk(2, -1)
        kept = (first > second)[:, None]
        return torch.cat((torch.where(kept, one, other), torch.where(kept, other, one)), -1)
    slope = 1 - torch.tanh(before).square() if isinstance(activation, nn.Tanh) else (before > 0).to(before.dtype)
    return rows * slope[:, None]
