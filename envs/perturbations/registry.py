"""Perturbations by name, and a table of what they are."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fermo.envs.perturbations.actuation import ActionDelay, ActionNoise, ActionSaturation, AdversarialBlend
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.dynamics import ActuatorForceLimit, CubeMass, Friction, JointDamping, ServoGain
from fermo.envs.perturbations.dynamics_attack import DynamicsAttack
from fermo.envs.perturbations.gradient_attack import GradientAttack
from fermo.envs.perturbations.gradient_shift import GradientShift
from fermo.envs.perturbations.learned_attack import LearnedAttack
from fermo.envs.perturbations.sensing import (
    ObservationBias,
    ObservationDelay,
    ObservationDropout,
    ObservationNoise,
    ObservationSignNoise,
)
from fermo.envs.perturbations.wrench import ObjectMove, Push
from fermo.errors import unknown_name

PERTURBATIONS: dict[str, type[Perturbation]] = {
    kind.name: kind
    for kind in (
        CubeMass,
        Friction,
        ServoGain,
        JointDamping,
        ActuatorForceLimit,
        ObservationNoise,
        ObservationSignNoise,
        ObservationBias,
        ObservationDelay,
        ObservationDropout,
        GradientAttack,
        DynamicsAttack,
        LearnedAttack,
        GradientShift,
        ActionNoise,
        ActionDelay,
        ActionSaturation,
        AdversarialBlend,
        Push,
        ObjectMove,
    )
}


@dataclass(frozen=True, kw_only=True)
class PerturbationFacts:
    """One row of the table of perturbations; severities in `unit`."""

    name: str
    unit: str
    nominal: float
    low: float
    high: float
    sentence: str


def perturbation_class(name: str) -> type[Perturbation]:
    """The class called `name`.

    Raises:
        FermoError: There is none; the nearest name is suggested.
    """
    if name not in PERTURBATIONS:
        raise unknown_name("perturbation", name, PERTURBATIONS)
    return PERTURBATIONS[name]


def make_perturbation(name: str, severity: float | Tensor, **options: Any) -> Perturbation:
    """The perturbation called `name` at a severity, with its own options (``scale``, ``body``, ``policy_map``, ...).

    Raises:
        FermoError: Unknown name or option, or a severity outside the bounds.
    """
    kind = perturbation_class(name)
    known = [option for option in inspect.signature(kind).parameters if option != "severity"]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of {name}", option, known)
    return kind(severity, **options)


def describe() -> list[PerturbationFacts]:
    """Every perturbation with its unit, nominal severity, bounds and one sentence, in registry order."""
    return [
        PerturbationFacts(name=name, unit=kind.unit, nominal=kind.nominal, low=kind.low, high=kind.high,
                          sentence=(inspect.getdoc(kind) or "").split("\n\n")[0].replace("\n", " "))
        for name, kind in PERTURBATIONS.items()
    ]  # fmt: skip
