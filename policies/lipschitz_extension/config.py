"""Settings of `lipschitz_extension`."""

from __future__ import annotations

from dataclasses import dataclass

from fermo.policies.behavior_cloning_config import require_positive
from fermo.policies.one_step_config import OneStepConfig


@dataclass(frozen=True, kw_only=True)
class LipschitzExtensionConfig(OneStepConfig):
    """The demonstrations are the policy: no network, no seed, and every query looks at every one of them.

    Attributes:
        alpha: Lipschitz bound, in l2, from the normalised observation to the normalised action; what gamma is to
            `lipschitz_bc`.
        interpolate: Pass through every demonstration, or refuse, naming the smallest alpha that can. Otherwise the
            squared error is as small as alpha allows.
    """

    alpha: float = 5.0
    interpolate: bool = False

    def __post_init__(self) -> None:
        require_positive(alpha=self.alpha)
