"""Behaviour cloning with an unconstrained network."""

from __future__ import annotations

from typing import ClassVar

from fermo.policies.behavior_cloning import BehaviorCloningPolicy
from fermo.policies.mlp_bc.config import MlpBcConfig


class MlpBcPolicy(BehaviorCloningPolicy):
    """A plain multilayer perceptron; its certificate bounds whatever slope training left it with."""

    family: ClassVar[str] = "mlp_bc"
    config: MlpBcConfig
