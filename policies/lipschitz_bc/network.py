"""Layers with orthonormal rows or columns, from free parameters by the Cayley transform."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fermo.policies.network import empty_linear, interleave


def cayley(free: Tensor) -> Tensor:
    r"""Matrix of the same shape with orthonormal columns, or rows if it is wide.

    With the free matrix split into square X above Y, ``Z = X - X^T + Y^T Y`` and ``N = (I + Z)^-1``::

        Q = [2 N - I; -2 Y N],   Q^T Q = I

    (Trockman and Kolter 2021, rectangular form of Wang and Manchester 2023). I + Z is always invertible: its symmetric
    part is at least I. One explicit inverse serves both blocks and its backward pass is two products, which makes it
    about twice as fast on a CPU as `torch.nn.utils.parametrizations.orthogonal`, as that pads thin matrices to square.
    """
    tall = free.T if free.shape[0] < free.shape[1] else free
    size = tall.shape[1]
    square, rest = tall[:size], tall[size:]
    identity = torch.eye(size, dtype=free.dtype, device=free.device)
    inverse = torch.linalg.inv(identity + square - square.T + rest.T @ rest)
    orthonormal = torch.cat((2 * inverse - identity, -2 * rest @ inverse))
    return orthonormal if tall is free else orthonormal.T.contiguous()  # one memory layout, one rounding


class CayleyLinear(nn.Module):
    """``y = cayley(free) diag(gain) x + bias``: Lipschitz with the largest gain, whatever its parameters.

    Attributes:
        free: Unconstrained parameters, shape ``(out, in)``.
        bias: Shape ``(out,)``.
        gain: Shape ``(in,)`` or ``()``.
    """

    gain: Tensor

    def __init__(self, fan_in: int, fan_out: int, *, gain: Tensor, generator: torch.Generator) -> None:
        super().__init__()
        scale = 1 / math.sqrt(max(fan_in, fan_out))
        self.free = nn.Parameter(scale * torch.randn(fan_out, fan_in, generator=generator))
        self.bias = nn.Parameter(torch.zeros(fan_out))
        self.register_buffer("gain", gain, persistent=False)

    def weight(self) -> Tensor:
        """The effective matrix, shape ``(out, in)``."""
        return cayley(self.free) * self.gain

    def forward(self, value: Tensor) -> Tensor:
        """Shape ``(..., in)`` to ``(..., out)``."""
        return F.linear(value, self.weight(), self.bias)

    @torch.no_grad()
    def folded(self) -> nn.Linear:
        """The plain layer with the same effective matrix."""
        linear = empty_linear(self.free.shape[1], self.free.shape[0], self.free.device)
        linear.weight.copy_(self.weight())
        linear.bias.copy_(self.bias)
        return linear


def lipschitz_mlp(sizes: tuple[int, ...], activation: str, gamma: float, input_gain: Tensor,
                  generator: torch.Generator) -> nn.Sequential:  # fmt: skip
    """A perceptron with ``||f(z) - f(z')|| <= gamma ||input_gain * (z - z')||`` whatever its parameters.

    Args:
        sizes: Of the layers, input and output included.
        activation: A 1-Lipschitz activation by name.
        gamma: The bound; its square root goes to the first and to the last layer, so neither starves of gradient.
        input_gain: Weight of each input channel, shape ``(sizes[0],)``.
        generator: Draws the initial weights.
    """
    root = math.sqrt(gamma)
    gains = [input_gain * root, *(torch.tensor(1.0) for _ in sizes[3:]), torch.tensor(root)]
    shapes = zip(pairwise(sizes), gains, strict=True)
    return interleave([CayleyLinear(i, o, gain=gain, generator=generator) for (i, o), gain in shapes], activation)
