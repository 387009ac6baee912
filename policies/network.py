"""Multilayer perceptrons whose activations are 1-Lipschitz, initialised from a generator."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from fermo.errors import unknown_name
from fermo.policies.behavior_cloning_config import Activation


class GroupSort(nn.Module):
    """Sorts channel pairs (i, i + n/2): gradient-norm preserving and 1-Lipschitz in l2 (Anil, Lucas, Grosse 2019).

    Written as ``max(a, b) = b + relu(a - b)`` and ``min(a, b) = a - relu(a - b)``, whose backward pass is half as long
    as that of maximum and minimum.
    """

    def forward(self, value: Tensor) -> Tensor:
        """Shape ``(..., n)`` with n even, in and out."""
        first, second = value.chunk(2, -1)
        excess = torch.relu(first - second)
        return torch.cat((second + excess, first - excess), -1)


ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "groupsort": GroupSort}


def mlp(sizes: Sequence[int], activation: str, generator: torch.Generator) -> nn.Sequential:
    """Linear layers of the given sizes with the activation between them.

    Weights are uniform in ``+-sqrt(3 / fan_in)`` (variance ``1 / fan_in``), biases zero; the global random state is
    untouched.
    """
    layers = []
    for fan_in, fan_out in pairwise(sizes):
        layers.append(linear := empty_linear(fan_in, fan_out))
        bound = math.sqrt(3.0 / fan_in)
        nn.init.uniform_(linear.weight, -bound, bound, generator=generator)
        nn.init.zeros_(linear.bias)
    return interleave(layers, activation)


def empty_linear(fan_in: int, fan_out: int, device: torch.device | str = "cpu") -> nn.Linear:
    """A linear layer with uninitialised weights, made without drawing from the global random state."""
    linear = nn.utils.skip_init(nn.Linear, fan_in, fan_out, device=device)
    assert isinstance(linear, nn.Linear)
    return linear


def interleave(layers: Sequence[nn.Module], activation: str) -> nn.Sequential:
    """The layers with the activation between each two. Raises `FermoError` for an unknown activation."""
    if activation not in ACTIVATIONS:
        raise unknown_name("activation", activation, ACTIVATIONS)
    modules = [module for layer in layers for module in (layer, ACTIVATIONS[activation]())]
    return nn.Sequential(*modules[:-1])
