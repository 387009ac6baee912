"""L2C2: the action changes little on the way from one observation to the next."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fermo.policies.one_step import OneStepPolicy
from fermo.policies.smooth_bc.method import Method


class L2c2(Method):
    """``L = E ||pi(z_t + u (z_{t+1} - z_t)) - pi(z_t)||^2`` with u uniform in [0, 1].

    The policy's term of Kobayashi 2022, *L2C2: Locally Lipschitz Continuous Constraint towards Stable and Smooth
    Reinforcement Learning*, at a fixed weight; cloning has no value function for the other. The region in which the
    policy is held is as large as the plant moves in a step, so fast passages are held over a longer way.
    """

    needs_next_observation = True

    def penalty(self, policy: OneStepPolicy, batch: Mapping[str, Tensor]) -> Tensor:
        """See `Method`."""
        now, following = (policy.observation_normalizer(batch[name]) for name in ("observation", "next_observation"))
        u = torch.rand_like(now[:, :1])
        action, between = policy.normalized_map(torch.cat((now, torch.lerp(now, following, u)))).chunk(2)
        return (between - action).square().sum(dim=1).mean()
