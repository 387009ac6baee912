"""A plain perceptron whose product of spectral norms is for the loss to keep small."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fermo.policies.behavior_cloning_config import Activation
from fermo.policies.lipschitz_bc.network import ConstrainedMlp, FixedBound, layer_shapes


class PenalisedMlp(ConstrainedMlp):
    """Nothing holds by construction: the certificate is whatever the bounds give for the weights training left."""

    def __init__(self, sizes: tuple[int, ...], activation: Activation, generator: torch.Generator) -> None:
        super().__init__(sizes, activation, FixedBound(1.0))
        bounds = [(shape, math.sqrt(3.0 / shape[1])) for shape in layer_shapes(sizes)]
        self.free = nn.ParameterList(
            nn.init.uniform_(torch.empty(shape), -bound, bound, generator=generator) for shape, bound in bounds
        )

    def matrices(self) -> list[Tensor]:
        """See `ConstrainedMlp`."""
        return list(self.free)

    def lipschitz(self) -> Tensor:
        """``prod ||W_k||`` between the gains, valid for every 1-Lipschitz activation."""
        return torch.stack([spectral_norm(weight) for weight in self.free]).prod()


def spectral_norm(weight: Tensor) -> Tensor:
    """Largest singular value, a scalar with gradient ``u v^T``.

    The singular vectors come from the whole spectrum of the smaller Gram matrix, so nothing has to converge: one step
    of power iteration, which `torch.nn.utils.parametrizations.spectral_norm` takes, is too low by per cents.
    """
    with torch.no_grad():
        if not torch.isfinite(weight).all():  # eigh would stop the training with less to say than the loop has
            return weight.sum() * torch.nan
        short = weight if weight.shape[0] <= weight.shape[1] else weight.T
        left = torch.linalg.eigh(short @ short.T).eigenvectors[:, -1]
        right = F.normalize(short.T @ left, dim=0)
        first, second = (left, right) if short is weight else (right, left)
    return first @ weight @ second
