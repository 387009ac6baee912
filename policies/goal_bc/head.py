"""How the numbers that a network answers stand for actions, what is learned of them, and how one is chosen."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from fermo.policies.goal_bc.config import GoalBcConfig
from fermo.policies.windowed.world_noise import Noise


class Head(nn.Module, ABC):
    """From n numbers to a chunk of H scaled actions, ``(..., n)`` to ``(..., H, action_size)``.

    Attributes:
        size: n.
    """

    size: int

    def __init__(self, config: GoalBcConfig, action_size: int) -> None:
        super().__init__()
        self.chunk, self.action_size = config.chunk, action_size

    def fit(self, actions: Tensor) -> None:
        """Take what it needs of the scaled demonstrated actions, ``(M, action_size)``.

        Raises:
            FermoError: They do not suit the config.
        """

    @abstractmethod
    def errors(self, answers: Tensor, actions: Tensor, counted: Tensor) -> Tensor:
        """What training lowers, shape ``(B, S)``; meaningless where no action counts.

        Args:
            answers: Of the network, shape ``(B, S, n)``.
            actions: Demonstrated chunks, ``(B, S, H, action_size)``.
            counted: Which actions of a chunk there are, ``(B, S, H)`` bool.
        """

    @abstractmethod
    def act(self, answers: Tensor, noise: Noise) -> Tensor:
        """A chunk for each world, ``(N, H, action_size)``, from the network's answers ``(N, n)``."""


def draw(logits: Tensor, noise: Noise) -> Tensor:
    """One of K alternatives a world, ``(N,)``, with the probabilities ``softmax(logits)``, ``(N, K)``.

    The alternative at which the distribution function passes u, with u uniform as that of a normal number is.
    """
    u = torch.special.ndtr(noise(logits[:, :1]))
    passed = u > logits.softmax(-1).cumsum(-1)
    return passed.sum(-1).clamp_max(logits.shape[1] - 1)  # a sum rounded below 1 may leave u above it
