"""Behaviour cloning with a smoothness method from the literature."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar

from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.behavior_cloning import BehaviorCloningPolicy
from fermo.policies.smooth_bc.caps import Caps
from fermo.policies.smooth_bc.config import SmoothBcConfig, SmoothingMethod
from fermo.policies.smooth_bc.l2c2 import L2c2
from fermo.policies.smooth_bc.lcp import Lcp
from fermo.policies.smooth_bc.lipsnet import LipsNet
from fermo.policies.smooth_bc.method import Method
from fermo.signal import PlantSpec

METHODS: dict[SmoothingMethod, type[Method]] = {"caps": Caps, "l2c2": L2c2, "lcp": Lcp, "lipsnet": LipsNet}


class SmoothBcPolicy(BehaviorCloningPolicy):
    """A perceptron, or with lipsnet a perceptron over the norm of its Jacobian, and a method's term in the loss."""

    family: ClassVar[str] = "smooth_bc"
    config: SmoothBcConfig

    def __init__(self, spec: PlantSpec, config: SmoothBcConfig) -> None:
        super().__init__(spec, config)
        self.needs_next_observation = self.method.needs_next_observation

    @cached_property
    def method(self) -> Method:
        """The method that the config names."""
        return METHODS[self.config.method](self.config)

    def _build_network(self) -> nn.Module:
        perceptron = super()._build_network()
        assert isinstance(perceptron, nn.Sequential)
        return self.method.network(perceptron)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Regression loss, plus the method's weighted term.

        Raises:
            FermoError: The method compares neighbouring steps and `batch` holds no ``"next_observation"``.
        """
        if self.needs_next_observation and "next_observation" not in batch:
            raise FermoError(f"{self.config.method} compares neighbouring steps: train it with next_observations")
        loss, metrics = super().forward(batch)
        penalty = self.method.penalty(self, batch)
        return loss + self.config.weight * penalty, metrics | {"penalty": penalty.detach()}

    def why_uncertified(self) -> str | None:
        """Lipsnet's quotient has no bound; what the other methods deploy is a perceptron, certified as one."""
        if self.config.method != "lipsnet":
            return None
        divided = "lipsnet divides the network by the norm of its own Jacobian"
        if self.config.activation == "tanh":
            return f"{divided}, and K bounds the slope only where that norm stands still"
        return f"{divided}, which jumps where a {self.config.activation} switches: the action jumps too, past any slope"
