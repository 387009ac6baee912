"""Behaviour cloning with a network that is Lipschitz by construction, or penalised into being so."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from fermo.policies.behavior_cloning import BehaviorCloningPolicy
from fermo.policies.lipschitz_bc.cayley import CayleyMlp
from fermo.policies.lipschitz_bc.config import LipschitzBcConfig
from fermo.policies.lipschitz_bc.gains import channel_gains
from fermo.policies.lipschitz_bc.network import ConstrainedMlp, FixedBound, LearnedBound
from fermo.policies.lipschitz_bc.penalised import PenalisedMlp
from fermo.policies.lipschitz_bc.sandwich import SandwichMlp


class LipschitzBcPolicy(BehaviorCloningPolicy):
    """While training, each weight is recomputed from free parameters; `fold` leaves a plain perceptron."""

    family: ClassVar[str] = "lipschitz_bc"
    config: LipschitzBcConfig

    def _build_network(self) -> nn.Module:
        network = constrained_mlp(self.config, self._sizes(), self._generator())
        self._set_gains(network)
        return network

    def fit_normalization(self, observations: Tensor, actions: Tensor) -> None:
        """Fit both normalisers, and the gains that slope bounds in SI units ask for."""
        super().fit_normalization(observations, actions)
        if isinstance(self.network, ConstrainedMlp):
            self._set_gains(self.network)

    @torch.no_grad()
    def _set_gains(self, network: ConstrainedMlp) -> None:
        std = self.observation_normalizer.std.cpu(), self.action_normalizer.std.cpu()
        inputs, outputs = channel_gains(self.config, self.spec, *std)
        network.input_gain.copy_(inputs)
        network.output_gain.copy_(outputs)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Regression loss, plus the weighted bound where it is not fixed."""
        loss, metrics = super().forward(batch)
        if self.config.gamma_weight is None or not isinstance(self.network, ConstrainedMlp):
            return loss, metrics
        bound = self.network.lipschitz()
        return loss + self.config.gamma_weight * bound, metrics | {"lipschitz": bound.detach()}

    def fold(self) -> Self:
        """Replace the constrained network by the plain one it stands for; the actions stay bitwise the same."""
        if isinstance(self.network, ConstrainedMlp):
            self.network = self.network.folded()
        return self


def constrained_mlp(config: LipschitzBcConfig, sizes: tuple[int, ...], generator: torch.Generator) -> ConstrainedMlp:
    """The network of the construction that `config` names, with gains of 1.

    Args:
        config: Construction, activation and gamma.
        sizes: Of the layers, input and output included.
        generator: Draws the initial weights.
    """
    if config.construction == "penalised":
        return PenalisedMlp(sizes, config.activation, generator)
    gamma = LearnedBound() if config.gamma is None else FixedBound(config.gamma)
    made = CayleyMlp if config.construction == "cayley" else SandwichMlp
    return made(sizes, config.activation, gamma, generator)
