"""LCP: the log-probability of an action changes little with the observation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fermo.policies.one_step import OneStepPolicy
from fermo.policies.smooth_bc.method import Method


class Lcp(Method):
    """``L = E ||d log p(a | z) / dz||^2`` for ``p = N(pi(z), I)``, the action a drawn from p.

    The gradient penalty of Chen et al. 2024, *Learning Smooth Humanoid Locomotion through Lipschitz-Constrained
    Policies*. A cloned policy is deterministic, so it is taken as the mean of a Gaussian head of unit variance in
    normalised units. With ``a = pi(z) + e`` the gradient is ``J(z)^T e``, so one draw a sample estimates
    ``E ||J(z)||_F^2`` without bias, at the cost of one backward pass.
    """

    def penalty(self, policy: OneStepPolicy, batch: Mapping[str, Tensor]) -> Tensor:
        """See `Method`."""
        z = policy.observation_normalizer(batch["observation"]).detach().requires_grad_(True)
        mean = policy.normalized_map(z)
        action = mean.detach() + torch.randn_like(mean)
        log_probability = -0.5 * (action - mean).square().sum()  # of all samples, without its constant
        (gradient,) = torch.autograd.grad(log_probability, z, create_graph=True)
        return gradient.square().sum(dim=1).mean()
