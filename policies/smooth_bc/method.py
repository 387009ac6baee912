"""What a smoothness method is: a term of the loss, and perhaps something around the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn

from fermo.policies.one_step import OneStepPolicy
from fermo.policies.smooth_bc.config import SmoothBcConfig


class Method(ABC):
    """One way to make a cloned policy smooth.

    pi(z) is the whole action in units of the action normaliser's standard deviation, as a function of the normalised
    observation z, action base included: `OneStepPolicy.normalized_map`.

    Attributes:
        needs_next_observation: Whether `penalty` reads ``"next_observation"``.
    """

    needs_next_observation: ClassVar[bool] = False

    def __init__(self, config: SmoothBcConfig) -> None:
        self.config = config

    def network(self, perceptron: nn.Sequential) -> nn.Module:
        """What the policy uses as its network; the perceptron itself where the method only adds to the loss."""
        return perceptron

    @abstractmethod
    def penalty(self, policy: OneStepPolicy, batch: Mapping[str, Tensor]) -> Tensor:
        """What the loss adds, before its weight, a scalar; it draws from torch's own random state.

        Args:
            policy: Whose map is made smooth.
            batch: As `Policy.forward` takes it.
        """
