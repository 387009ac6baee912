"""What the one-step behaviour-cloning families let a user set; importing it does not load torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from fermo.errors import FermoError
from fermo.policies.one_step_config import OneStepConfig

Activation = Literal["relu", "tanh", "groupsort"]


@dataclass(frozen=True, kw_only=True)
class BehaviorCloningConfig(OneStepConfig):
    """Network and loss of a one-step regression policy.

    Attributes:
        hidden: Width of each hidden layer; even for groupsort.
        activation: Between the layers; all are 1-Lipschitz.
        loss: On normalised actions: squared error, or Huber's with its knee at one standard deviation.
        seed: Of the initial weights.
    """

    hidden: tuple[int, ...] = (256, 256, 256)
    activation: Activation = "groupsort"
    loss: Literal["mse", "smooth_l1"] = "mse"
    seed: int = 0

    def __post_init__(self) -> None:
        require_perceptron(self.hidden, self.activation)
        if self.loss not in ("mse", "smooth_l1"):
            raise FermoError(f"loss {self.loss!r} does not exist: choose from mse, smooth_l1")


def require_perceptron(hidden: tuple[int, ...], activation: str) -> None:
    """Raise `FermoError` unless hidden layers of these widths with that activation can be built."""
    if not hidden or min(hidden) < 1:
        raise FermoError(f"hidden must name at least one positive width, got {hidden}")
    activations = get_args(Activation)
    if activation not in activations:
        raise FermoError(f"activation {activation!r} does not exist: choose from {', '.join(activations)}")
    if activation == "groupsort" and any(width % 2 for width in hidden):
        raise FermoError(f"groupsort sorts pairs: every width in hidden must be even, got {hidden}")


def require_positive(**values: float) -> None:
    """Raise `FermoError` naming the first value that is not a positive finite number."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise FermoError(f"{name} must be positive and finite, got {value}")
