"""Settings of `mlp_bc`."""

from __future__ import annotations

from dataclasses import dataclass

from fermo.policies.behavior_cloning_config import BehaviorCloningConfig


@dataclass(frozen=True, kw_only=True)
class MlpBcConfig(BehaviorCloningConfig):
    """Behaviour cloning with nothing constrained: the baseline for `lipschitz_bc` at equal width and activation."""
