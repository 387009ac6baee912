"""Sandwich layers: every perceptron that the semidefinite bound LipSDP certifies at gamma, and no other."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fermo.policies.behavior_cloning_config import Activation
from fermo.policies.lipschitz_bc.cayley import cayley_blocks
from fermo.policies.lipschitz_bc.network import ConstrainedMlp, FixedBound, LearnedBound, layer_shapes, normal_matrices


class SandwichMlp(ConstrainedMlp):
    r"""The direct parameterisation of Wang and Manchester 2023.

    With A and B from the Cayley transform, so that ``A A^T + B B^T = I``, and Psi a positive diagonal::

        h -> sqrt(2) A^T Psi act(sqrt(2) Psi^-1 B h + b),   last layer  h -> B h + b

    is 1-Lipschitz for every elementwise activation with slopes in [0, 1]. The outer factor of one layer is multiplied
    into the next layer's inner one, ``W_k = sqrt(2) Psi_k^-1 B_k sqrt(2) A_{k-1}^T Psi_{k-1}``, so what runs is an
    ordinary perceptron. Single matrices may well have norms above 1: the chain has not, and ``Lambda_k = Psi_k^2`` are
    multipliers with which LipSDP proves it.

    Attributes:
        free: ``[X; Y]`` of each layer, shape ``(out + in, out)``, of which Cayley makes ``[A^T; B^T]``.
        log_psi: Diagonal of each hidden layer's Psi, as a logarithm, shape ``(out,)``.
    """

    def __init__(self, sizes: tuple[int, ...], activation: Activation, gamma: FixedBound | LearnedBound,
                 generator: torch.Generator) -> None:  # fmt: skip
        super().__init__(sizes, activation, gamma)
        shapes = layer_shapes(sizes)
        self.free = normal_matrices([(fan_out + fan_in, fan_out) for fan_out, fan_in in shapes], generator)
        self.log_psi = nn.ParameterList(torch.zeros(fan_out) for fan_out, _ in shapes[:-1])

    def matrices(self) -> list[Tensor]:
        """See `ConstrainedMlp`."""
        merged: list[Tensor] = []
        outer = None  # of the layer before
        for free, log_psi in zip(self.free, [*self.log_psi, None], strict=True):
            a_transposed, b = factors(free)
            inner = b if log_psi is None else b * (math.sqrt(2) * torch.exp(-log_psi))[:, None]
            merged.append(inner.contiguous() if outer is None else inner @ outer)
            outer = None if log_psi is None else a_transposed * (math.sqrt(2) * torch.exp(log_psi))
        return merged


def factors(free: Tensor) -> tuple[Tensor, Tensor]:
    """``A^T``, shape ``(out, out)``, and ``B``, shape ``(out, in)``, with ``A A^T + B B^T = I``."""
    a_transposed, b_transposed = cayley_blocks(free)
    return a_transposed, b_transposed.T
