"""A perceptron whose matrices follow from free parameters: what every construction shares."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fermo.policies.behavior_cloning_config import Activation
from fermo.policies.network import ACTIVATIONS, empty_linear, interleave


class FixedBound(nn.Module):
    """A Lipschitz bound that training leaves alone."""

    value: Tensor

    def __init__(self, value: float) -> None:
        super().__init__()
        self.register_buffer("value", torch.tensor(value), persistent=False)

    def forward(self) -> Tensor:
        """The bound, a scalar."""
        return self.value


class LearnedBound(nn.Module):
    """A Lipschitz bound that is a parameter, positive because its logarithm is what is learned; 1 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.log_value = nn.Parameter(torch.tensor(0.0))

    def forward(self) -> Tensor:
        """The bound, a scalar."""
        return self.log_value.exp()


class ConstrainedMlp(nn.Module, ABC):
    """``f(z) = output_gain * sqrt(gamma) * chain(sqrt(gamma) * input_gain * z) + bias``.

    The chain is linear layers with a 1-Lipschitz activation between them. Where it is 1-Lipschitz whatever the
    parameters, ``||(f(z) - f(z')) / output_gain|| <= gamma ||input_gain * (z - z')||``. The square root of gamma goes
    to either end, so that neither layer starves of gradient.

    `forward` runs the very matrices that `folded` stores, so both give bitwise the same numbers.

    Attributes:
        gamma: Gives the bound, a scalar.
        input_gain: Of each input channel, shape ``(sizes[0],)``.
        output_gain: Of each output channel, shape ``(sizes[-1],)``.
    """

    input_gain: Tensor
    output_gain: Tensor

    def __init__(self, sizes: tuple[int, ...], activation: Activation, gamma: FixedBound | LearnedBound) -> None:
        super().__init__()
        self.gamma = gamma
        self.activation_name = activation
        self.activation = ACTIVATIONS[activation]()
        self.biases = nn.ParameterList(torch.zeros(size) for size in sizes[1:])
        self.register_buffer("input_gain", torch.ones(sizes[0]), persistent=False)
        self.register_buffer("output_gain", torch.ones(sizes[-1]), persistent=False)

    @abstractmethod
    def matrices(self) -> list[Tensor]:
        """Effective matrices of the chain, shapes ``(out, in)``, at least two."""

    def lipschitz(self) -> Tensor:
        """Bound of the map between the gains, a differentiable scalar."""
        return self.gamma()

    def effective(self) -> list[tuple[Tensor, Tensor]]:
        """Weight and bias of every layer, gains included."""
        first, *middle, last = self.matrices()
        root = self.gamma().sqrt()
        weights = [first * (root * self.input_gain), *middle, (root * self.output_gain)[:, None] * last]
        return list(zip(weights, self.biases, strict=True))

    def forward(self, value: Tensor) -> Tensor:
        """Shape ``(..., in)`` to ``(..., out)``."""
        *hidden, last = self.effective()
        for weight, bias in hidden:
            value = self.activation(F.linear(value, weight, bias))
        return F.linear(value, *last)

    @torch.no_grad()
    def folded(self) -> nn.Sequential:
        """The plain perceptron with the same effective weights."""
        layers = []
        for weight, bias in self.effective():
            layers.append(linear := empty_linear(weight.shape[1], weight.shape[0], weight.device))
            linear.weight.copy_(weight)
            linear.bias.copy_(bias)
        return interleave(layers, self.activation_name)


def normal_matrices(shapes: list[tuple[int, int]], generator: torch.Generator) -> nn.ParameterList:
    """Free parameters, normal with variance one over the longer side."""
    return nn.ParameterList(torch.randn(shape, generator=generator) / math.sqrt(max(shape)) for shape in shapes)


def layer_shapes(sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """``(out, in)`` of every layer."""
    return [(fan_out, fan_in) for fan_in, fan_out in pairwise(sizes)]
