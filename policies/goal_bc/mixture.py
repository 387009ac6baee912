"""A mixture of Gaussians (Bishop 1994, mixture density networks), one component for each way of going on."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from fermo.policies.goal_bc.config import GoalBcConfig
from fermo.policies.goal_bc.head import Head, draw
from fermo.policies.windowed.world_noise import Noise


class Mixture(Head):
    """``p(a) = sum_k w_k N(a; mu_k, diag(sigma_k^2))`` over whole chunks, which so follow one way to their end."""

    def __init__(self, config: GoalBcConfig, action_size: int) -> None:
        super().__init__(config, action_size)
        self.config = config.mixture
        numbers = self.chunk * action_size
        self.parts = [self.config.components * count for count in (1, numbers, numbers)]
        self.size = sum(self.parts)

    def components(self, answers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of the weights ``(..., K)``, means and deviations ``(..., K, H, action_size)``."""
        logits, means, widths = answers.split(self.parts, -1)
        shape = self.config.components, self.chunk, self.action_size
        return logits, means.unflatten(-1, shape), self.config.min_std + F.softplus(widths.unflatten(-1, shape))

    def errors(self, answers: Tensor, actions: Tensor, counted: Tensor) -> Tensor:
        """The negative log-likelihood of the actions there are."""
        logits, mu, sigma = self.components(answers)
        z = (actions[..., None, :, :] - mu) / sigma
        normal = -(z.square() / 2 + sigma.log() + math.log(2 * math.pi) / 2).sum(-1)
        of_component = (normal * counted[..., None, :]).sum(-1)
        return -torch.logsumexp(logits.log_softmax(-1) + of_component, -1)

    def act(self, answers: Tensor, noise: Noise) -> Tensor:
        """A component, and an action around its mean by the config's share of its deviation."""
        logits, mu, sigma = self.components(answers)
        world, k = torch.arange(len(answers), device=answers.device), draw(logits, noise)
        mean = mu[world, k]
        return mean + self.config.spread * sigma[world, k] * noise(mean)
