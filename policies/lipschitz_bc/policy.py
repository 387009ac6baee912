"""Behaviour cloning with a network that is Lipschitz by construction."""

from __future__ import annotations

from typing import ClassVar, Self

import torch
from torch import nn

from fermo.errors import unknown_name
from fermo.policies.behavior_cloning import BehaviorCloningPolicy
from fermo.policies.lipschitz_bc.config import LipschitzBcConfig
from fermo.policies.lipschitz_bc.network import CayleyLinear, lipschitz_mlp


class LipschitzBcPolicy(BehaviorCloningPolicy):
    """While training, each weight is recomputed from free parameters; `fold` leaves a plain perceptron."""

    family: ClassVar[str] = "lipschitz_bc"
    config: LipschitzBcConfig

    def _build_network(self, generator: torch.Generator) -> nn.Sequential:
        slices = self.spec.observation_slices()
        gain = torch.ones(self.spec.observation_size)
        for name, weight in self.config.input_weights.items():
            if name not in slices:
                raise unknown_name("observation signal", name, slices)
            gain[slices[name]] = weight
        return lipschitz_mlp(self._sizes(), self.config.activation, self.config.gamma, gain, generator)

    def fold(self) -> Self:
        """Replace every constrained layer by the plain one it stands for; the actions stay bitwise the same."""
        for index, layer in enumerate(self.network):
            if isinstance(layer, CayleyLinear):
                self.network[index] = layer.folded()
        return self
