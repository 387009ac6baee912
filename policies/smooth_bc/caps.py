"""CAPS: neighbouring steps and neighbouring observations get nearly the same action."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fermo.policies.one_step import OneStepPolicy
from fermo.policies.smooth_bc.method import Method


class Caps(Method):
    """``L = E ||pi(z_t) - pi(z_{t+1})|| + spatial * E ||pi(z_t) - pi(z~)||`` with ``z~ ~ N(z_t, sigma^2 I)``.

    The temporal and the spatial term of Mysore et al. 2021, *Regularizing Action Policies for Smooth Control with
    Reinforcement Learning*. The successors are those of the demonstrations, not of the policy.
    """

    needs_next_observation = True

    def penalty(self, policy: OneStepPolicy, batch: Mapping[str, Tensor]) -> Tensor:
        """See `Method`."""
        now, following = (policy.observation_normalizer(batch[name]) for name in ("observation", "next_observation"))
        beside = now + self.config.sigma * torch.randn_like(now)
        action, after, nearby = policy.normalized_map(torch.cat((now, following, beside))).chunk(3)
        temporal = torch.linalg.vector_norm(action - after, dim=1).mean()
        spatial = torch.linalg.vector_norm(action - nearby, dim=1).mean()
        return temporal + self.config.spatial * spatial
