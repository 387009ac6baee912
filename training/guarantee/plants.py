"""Tasks for which closed-loop guarantees are offered: where they rest, and what must not be left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fermo.errors import FermoError

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """``sum_i q_i x_i^2 + sum_j r_j u_j^2``, what a task's reward is the negative of, near rest.

    Attributes:
        q: ``(n,)``, per squared SI unit.
        r: ``(m,)``, per squared SI unit.
    """

    q: Array
    r: Array

    def mean(self, x: Array, u: Array) -> Array:
        """Mean cost a step of N runs of T steps, states ``(T, N, n)`` and actions ``(T, N, m)``, ``(N,)``."""
        return (x**2 @ self.q + u**2 @ self.r).mean(axis=0)

    def slopes(self, x: Array, u: Array, x_unit: Array, u_unit: Array) -> tuple[float, float]:
        """Largest change for a unit of state and of action within the boxes ``|x|`` and ``|u|``: c_x and c_u.

        The gradient of the cost is longest at a corner of the box.

        Args:
            x: Half widths ``(n,)``, SI units.
            u: Half widths ``(m,)``, SI units.
            x_unit: Unit of each state, SI units ``(n,)``.
            u_unit: Unit of each action, SI units ``(m,)``.
        """
        gradients = 2 * self.q * x * x_unit, 2 * self.r * u * u_unit
        return float(np.linalg.norm(gradients[0])), float(np.linalg.norm(gradients[1]))


@dataclass(frozen=True, kw_only=True)
class GuaranteedPlant:
    """A task with smooth dynamics about a state of rest, which is the origin of ``(qpos, qvel)`` with no action.

    Attributes:
        states: Names of the states, in order.
        units: Their SI units.
        at_rest: Overrides of the task's config that let every episode start at rest.
        safe: Largest distance from rest by state, SI units: the box that must not be left.
        cost: Reads the stage cost out of the task's config.
    """

    states: tuple[str, ...]
    units: tuple[str, ...]
    at_rest: Mapping[str, Any]
    safe: Mapping[str, float]
    cost: Callable[[Any], StageCost]


PLANTS: dict[str, GuaranteedPlant] = {
    "fermo/CartPole-v0": GuaranteedPlant(
        states=("cart_position", "pole_angle", "cart_velocity", "pole_velocity"), units=("m", "rad", "m/s", "rad/s"),
        at_rest={"start": (0.0, 0.0, 0.0, 0.0)}, safe={"cart_position": 2.4, "pole_angle": 0.1},
        cost=lambda config: StageCost(q=np.array(config.state_cost), r=np.array([config.force_cost])),
    ),
    "fermo/Pendulum-v0": GuaranteedPlant(
        states=("angle", "velocity"), units=("rad", "rad/s"), at_rest={"start_angle": 0.0, "start_velocity": 0.0},
        safe={"angle": 0.1},
        cost=lambda config: StageCost(q=np.array([1.0, config.velocity_cost]), r=np.array([config.torque_cost])),
    ),
}  # fmt: skip


def guaranteed_plant(task: str) -> GuaranteedPlant:
    """The entry of a task, by its full name.

    Raises:
        FermoError: Nothing is claimed for the task; says why, and for which it is.
    """
    if task not in PLANTS:
        known = ", ".join(name.removeprefix("fermo/") for name in PLANTS)
        raise FermoError(
            f"no closed-loop guarantee is claimed for {task}: with contacts, limits or delays its dynamics are not one "
            f"smooth map of the state; it is for {known}"
        )
    return PLANTS[task]
