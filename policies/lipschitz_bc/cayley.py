"""Layers with orthonormal rows or columns, from free parameters by the Cayley transform."""

from __future__ import annotations

import torch
from torch import Tensor

from fermo.policies.behavior_cloning_config import Activation
from fermo.policies.lipschitz_bc.network import ConstrainedMlp, FixedBound, LearnedBound, layer_shapes, normal_matrices


def cayley(free: Tensor) -> Tensor:
    r"""Matrix of the same shape with orthonormal columns, or rows if it is wide.

    With the free matrix split into square X above Y, ``Z = X - X^T + Y^T Y`` and ``N = (I + Z)^-1``::

        Q = [2 N - I; -2 Y N],   Q^T Q = I

    (Trockman and Kolter 2021, rectangular form of Wang and Manchester 2023). I + Z is always invertible: its symmetric
    part is at least I. One explicit inverse serves both blocks and its backward pass is two products, which makes it
    about twice as fast on a CPU as `torch.nn.utils.parametrizations.orthogonal`, as that pads thin matrices to square.
    """
    tall = free.T if free.shape[0] < free.shape[1] else free
    orthonormal = torch.cat(cayley_blocks(tall))
    return orthonormal if tall is free else orthonormal.T.contiguous()  # one memory layout, one rounding


def cayley_blocks(tall: Tensor) -> tuple[Tensor, Tensor]:
    """``2 N - I``, square, and ``-2 Y N`` of `cayley`, for a free matrix that is not wide."""
    size = tall.shape[1]
    square, rest = tall.split((size, len(tall) - size))
    identity = torch.eye(size, dtype=tall.dtype, device=tall.device)
    inverse = torch.linalg.inv(torch.addmm(identity + square - square.T, rest.T, rest))
    return 2 * inverse - identity, -2 * (rest @ inverse)


class CayleyMlp(ConstrainedMlp):
    """Every matrix orthogonal: with groupsort between them, no gradient is lost on its way back."""

    def __init__(self, sizes: tuple[int, ...], activation: Activation, gamma: FixedBound | LearnedBound,
                 generator: torch.Generator) -> None:  # fmt: skip
        super().__init__(sizes, activation, gamma)
        self.free = normal_matrices(layer_shapes(sizes), generator)

    def matrices(self) -> list[Tensor]:
        """See `ConstrainedMlp`."""
        return [cayley(free) for free in self.free]
