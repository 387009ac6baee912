r"""Lipschitz bounds in closed form, each with the multipliers that prove it.

All are l2 bounds of ``W_k act(... act(W_1 z)) + B z``. Multipliers are those of the quadratic form in
`fermo.policies.certificates.check_certificate`, so that what these methods find in milliseconds, the checker can prove
and the search of `fermo.policies.certificates.lipsdp` can start from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fermo.policies.certificates.check_certificate import ELEMENTWISE, PRODUCT, Array

Bound = tuple[float, list[Array]]
"""A bound and its multipliers, one array a hidden layer."""


def spectral_norm(matrix: Array) -> float:
    """Largest singular value."""
    return float(np.linalg.norm(matrix, 2))


def closed_forms(weights: Sequence[Array], base: Array, activation: str) -> dict[str, Bound]:
    """Every method that holds for the activation, B counted, by the names a certificate uses."""
    bounds = {PRODUCT: product(weights, activation)}
    if activation in ELEMENTWISE:
        bounds |= {"LipLT": liplt(weights), "ECLipsE-Fast": eclipse_fast(weights)}
    return {name: add_base(bound, base) for name, bound in bounds.items()}


def add_base(bound: Bound, base: Array) -> Bound:
    """The bound ``L + ||B||`` of N + B from the bound L of N.

    With ``e = ||B|| / L``: ``||N + B||^2 <= (1 + e) ||N||^2 + (1 + 1/e) ||B||^2``, so N's multipliers grow by 1 + e.
    """
    lipschitz, multipliers = bound
    norm = spectral_norm(base)
    growth = 1 + norm / lipschitz if lipschitz > 0 else 1.0
    return lipschitz + norm, [growth * layer for layer in multipliers]


def product(weights: Sequence[Array], activation: str, slack: float = 0.0) -> Bound:
    """``prod ||W_i||``, for every 1-Lipschitz activation.

    Layer i has the multiplier ``prod_{j>i} ||W_j||^2``. With `slack` every norm counts as that much larger, relatively,
    and the multipliers lie strictly inside what is feasible.
    """
    squares = [(spectral_norm(weight) * (1 + slack)) ** 2 for weight in weights]
    shared = 2 if activation == "groupsort" else 1  # neurons with one multiplier
    after = [math.prod(squares[index:]) for index in range(len(squares) + 1)]
    layers = [np.full(len(weight) // shared, after[index + 1]) for index, weight in enumerate(weights[:-1])]
    return math.sqrt(after[0]), layers


def liplt(weights: Sequence[Array]) -> Bound:
    r"""LipLT (Fazlyab et al. 2023), for elementwise slopes in [0, 1].

    With ``act(v) = v/2 + p/2``, p 1-Lipschitz in v, the preactivation of layer k, T z + sum_j T_j p_j, has the bound::

        m_k = ||T|| + sum_{j<k} ||T_j|| m_j,   T = W_k ... W_1 / 2^(k-1),   T_j = W_k ... W_{j+1} / 2^(k-j)

    By Cauchy's inequality ``||v_k||^2 <= m_k (||T|| ||dz||^2 + sum_j ||T_j|| ||dp_j||^2 / m_j)``, and each
    ``||dp_j||^2 = ||dv_j||^2 - g_j`` with ``g_j = ||dv_j||^2 - ||dp_j||^2 >= 0`` is bounded in the same way. Collecting
    the g_j, layer i has the weight::

        w_i^k = m_k (||T_i|| / m_i + sum_{i<j<k} ||T_j|| / m_j w_i^j)

    and its multiplier is 2 w_i, as ``g = 4 dx (dv - dx)`` summed over the layer.
    """
    bounds: list[float] = []
    shares: list[Array] = []  # w^k, over the layers before k
    tails: list[Array] = []  # T, then T_j
    for weight in weights:
        tails = [weight @ tail for tail in tails] if tails else [weight]
        norms = [spectral_norm(tail) for tail in tails]
        bounds.append(norms[0] + sum(norm * bound for norm, bound in zip(norms[1:], bounds, strict=True)))
        share = np.zeros(len(bounds) - 1)
        for layer, norm in enumerate(norms[1:]):
            ratio = bounds[-1] * norm / bounds[layer] if bounds[layer] > 0 else 0.0
            share[layer] += ratio
            share[:layer] += ratio * shares[layer]
        shares.append(share)
        tails = [tail / 2 for tail in tails] + [np.eye(len(weight)) / 2]
    return bounds[-1], [np.full(len(w), 2 * share) for w, share in zip(weights[:-1], shares[-1], strict=True)]


def eclipse_fast(weights: Sequence[Array]) -> Bound:
    """ECLipsE-Fast (Xu and Sivaranjani 2024), for elementwise slopes in [0, 1].

    ``X_0 = I; M_i = W_i X_{i-1}^-1 W_i^T; c_i = 2 / lambda_max(M_i); X_i = c_i I - c_i^2 M_i / 4``, and the bound L has
    ``L^2 = ||W_k X_{k-1}^-1 W_k^T||``; layer i has the multiplier ``L^2 c_i / 2``.
    """
    inverse, steps = np.eye(weights[0].shape[1]), []
    for weight in weights[:-1]:
        matrix = weight @ inverse @ weight.T
        largest = float(np.linalg.eigvalsh(matrix)[-1])
        if largest <= 0.0:
            return 0.0, [np.zeros(len(layer)) for layer in weights[:-1]]
        steps.append(2.0 / largest)
        inverse = np.linalg.inv(steps[-1] * np.eye(len(matrix)) - steps[-1] ** 2 * matrix / 4)
    square = spectral_norm(weights[-1] @ inverse @ weights[-1].T)
    return math.sqrt(square), [np.full(len(w), square * c / 2) for w, c in zip(weights[:-1], steps, strict=True)]

