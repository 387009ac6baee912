"""Settings of `smooth_bc`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from fermo.errors import FermoError
from fermo.policies.behavior_cloning_config import BehaviorCloningConfig, require_positive

SmoothingMethod = Literal["caps", "l2c2", "lcp", "lipsnet"]


@dataclass(frozen=True, kw_only=True)
class SmoothBcConfig(BehaviorCloningConfig):
    """Behaviour cloning with a smoothness method from the literature: the baselines of `lipschitz_bc`.

    Attributes:
        method: ``"caps"``, actions of neighbouring steps and of neighbouring observations alike; ``"l2c2"``, actions
            between two steps alike; ``"lcp"``, a small gradient of the log-probability; ``"lipsnet"``, a network
            divided by the norm of its Jacobian. None promises a bound.
        weight: Of the method's term in the loss; for lipsnet of K^2.
        sigma: Of caps: spread of neighbouring observations, in standard deviations of the training data.
        spatial: Of caps: weight of the term of neighbouring observations over that of neighbouring steps.
        k: Of lipsnet: K, held fixed; learned when None, and then `weight` has it small.
    """

    method: SmoothingMethod = "lipsnet"
    weight: float = 1e-3
    sigma: float = 0.05
    spatial: float = 1.0
    k: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        methods = get_args(SmoothingMethod)
        if self.method not in methods:
            raise FermoError(f"method {self.method!r} does not exist: choose from {', '.join(methods)}")
        require_positive(weight=self.weight, sigma=self.sigma, spatial=self.spatial)
        if self.k is not None:
            require_positive(k=self.k)
            if self.method != "lipsnet":
                raise FermoError(f"k is lipsnet's, {self.method} has none: leave it out, or choose lipsnet")
