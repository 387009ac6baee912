"""Settings of `lipschitz_bc`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from fermo.policies.behavior_cloning_config import BehaviorCloningConfig, require_positive


@dataclass(frozen=True, kw_only=True)
class LipschitzBcConfig(BehaviorCloningConfig):
    """Behaviour cloning under a Lipschitz constraint.

    Attributes:
        gamma: Lipschitz bound, in l2, from the normalised observation (each signal times its input weight) to the
            network's normalised output. Small is robust, large is accurate.
        input_weights: Observation signal to weight, 1 where absent: the policy's slope along that signal is bounded by
            gamma times the weight, so a noisy sensor deserves less than 1.
    """

    gamma: float = 5.0
    input_weights: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(gamma=self.gamma, **{f"input_weights[{name}]": w for name, w in self.input_weights.items()})
