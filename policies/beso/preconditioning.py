"""Karras et al. 2022, Table 1 (EDM): a network between inputs and targets of unit variance at every noise level."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

CLEAN = 1e-3  # of sigma_data: what the network is told of an action without noise, whose logarithm has no value


class Coefficients(NamedTuple):
    """``D(x; sigma) = skip x + out F(scale x; noise)``, each of sigma's shape."""

    skip: Tensor
    out: Tensor
    scale: Tensor
    noise: Tensor


def coefficients(sigma: Tensor, sigma_data: Tensor) -> Coefficients:
    """The four coefficients of the denoiser.

    With ``s^2 = sigma^2 + sigma_data^2``: ``c_skip = sigma_data^2 / s^2``, ``c_out = sigma sigma_data / s``,
    ``c_in = 1 / s``, ``c_noise = ln(sigma) / 4``. At sigma = 0 the denoiser is the identity.

    Args:
        sigma: Noise levels, any shape.
        sigma_data: Standard deviation of the data, a scalar.
    """
    total = (sigma**2 + sigma_data**2).sqrt()
    noise = torch.log(torch.maximum(sigma, CLEAN * sigma_data)) / 4
    return Coefficients((sigma_data / total) ** 2, sigma * sigma_data / total, 1 / total, noise)


def network_target(clean: Tensor, noised: Tensor, sigma: Tensor, sigma_data: Tensor) -> Tensor:
    """What F must give for D to give `clean`: ``(clean - c_skip noised) / c_out``; 0 where sigma is 0.

    The squared error against it is ``(sigma^2 + sigma_data^2) / (sigma sigma_data)^2`` times the denoiser's.
    """
    c = coefficients(sigma, sigma_data)
    return (clean - c.skip * noised) / torch.where(sigma > 0, c.out, torch.inf)
