"""Settings of `lipschitz_bc`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from fermo.errors import FermoError
from fermo.policies.behavior_cloning_config import BehaviorCloningConfig, require_positive

Construction = Literal["cayley", "sandwich", "penalised"]


@dataclass(frozen=True, kw_only=True)
class LipschitzBcConfig(BehaviorCloningConfig):
    """Behaviour cloning under a Lipschitz constraint.

    Attributes:
        construction: How the slope is kept: ``"cayley"``, orthogonal matrices; ``"sandwich"``, every perceptron that
            LipSDP certifies at gamma, for relu or tanh; ``"penalised"``, a plain perceptron whose product of spectral
            norms is in the loss, with nothing promised beforehand.
        gamma: Lipschitz bound, in l2, from the normalised observation (each signal times its input weight) to the
            network's normalised output (each command over its output weight). Small is robust, large is accurate. None
            where `gamma_weight` sets the trade-off instead.
        gamma_weight: Weight of the bound in the loss, without `gamma`: of a gamma that is learned, or of the product of
            spectral norms where the construction is ``"penalised"``.
        input_weights: Observation signal to weight, 1 where absent: the policy's slope along that signal is bounded by
            gamma times the weight, so a noisy sensor deserves less than 1.
        output_weights: Command to weight, 1 where absent: that command's slope is bounded by gamma times the weight.
        slope_bounds: ``"command/observation"`` to the largest slope, in l2 and SI units (rad per m, N per rad/s), of
            that command along that observation signal, instead of what gamma and an input weight would give. It holds
            whatever the normalisation turns out to be. The signal has one weight for all commands, so the others' slope
            along it changes too: set them apart with `output_weights`.
    """

    construction: Construction = "cayley"
    gamma: float | None = 5.0
    gamma_weight: float | None = None
    input_weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    output_weights: Mapping[str, float] = field(default_factory=dict, hash=False)
    slope_bounds: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        constructions = get_args(Construction)
        if self.construction not in constructions:
            choices = ", ".join(constructions)
            raise FermoError(f"construction {self.construction!r} does not exist: choose from {choices}")
        if self.construction == "sandwich" and self.activation == "groupsort":
            raise FermoError("sandwich needs an activation that acts element by element, which groupsort does not: "
                             "choose relu or tanh, or the cayley construction")  # fmt: skip
        if self.construction == "penalised" and self.gamma is not None:
            raise FermoError("penalised keeps no fixed bound: set gamma to None and gamma_weight to a positive number")
        if (self.gamma is None) == (self.gamma_weight is None):
            given = "both" if self.gamma is not None else "neither"
            raise FermoError(f"give gamma, a fixed bound, or gamma_weight, its weight in the loss, not {given}")
        self._check_slopes()
        weights = {name: getattr(self, name) for name in ("input_weights", "output_weights", "slope_bounds")}
        named = {f"{name}[{key}]": value for name, given in weights.items() for key, value in given.items()}
        bound = {"gamma": self.gamma, "gamma_weight": self.gamma_weight}
        require_positive(**{name: value for name, value in bound.items() if value is not None}, **named)

    def _check_slopes(self) -> None:
        if self.slope_bounds and self.gamma is None:
            raise FermoError("slope_bounds are kept by a fixed gamma: give gamma instead of gamma_weight")
        for name in self.slope_bounds:
            if name.count("/") != 1:
                raise FermoError(f"slope_bounds names a pair as 'command/observation', got {name!r}")
            if name.split("/")[1] in self.input_weights:
                raise FermoError(f"{name.split('/')[1]!r} has an input weight and a slope bound: give one of them")
