"""The scripted expert for Pendulum: pump energy until the swing reaches the top, and hold it there.

Astrom and Furuta, "Swinging up a pendulum by energy control", Automatica 36(2), 2000, for the pumping. Both halves and
their blend are continuous functions of the observation, so that a memoryless policy can imitate them.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
import torch
from torch import Tensor

from fermo.controllers.lqr import Lqr, solve_lqr
from fermo.envs.tasks.pendulum import Pendulum
from fermo.training.demos.ramp import ramp
from fermo.training.guarantee.linearize import linearize


@dataclass(frozen=True, kw_only=True)
class PendulumExpertConfig:
    """How hard to pump and when to catch.

    Attributes:
        pump: Torque per missing energy and angular velocity [N m / (J rad/s)].
        hold: Distances from upright between which the regulator hands over to the pump, in units of the torque limit:
            how much torque the regulator would ask for.
        near: Cosines of the angle between which the regulator may hold at all; below the first only the pump works.
    """

    pump: float = 1.0
    hold: tuple[float, float] = (2.0, 6.0)
    near: tuple[float, float] = (0.7, 0.85)


class PendulumExpert:
    """Torque from observations, batched.

    With E the energy above that of rest at the top, the pump gives ``u = -k E w``, so that ``dE/dt = -k E w^2``; near
    the top it gives way to the regulator of the task's cost, where that asks for a torque the motor has.

    Args:
        task: Whose model, signals and cost to use.
        config: How hard to pump and when to catch.
    """

    def __init__(self, task: Pendulum, config: PendulumExpertConfig | None = None) -> None:
        self.config = config or PendulumExpertConfig()
        upright = linearize(task, np.zeros(2), np.zeros(1))
        cost = np.diag([1.0, task.config.velocity_cost]), np.array([[task.config.torque_cost]])
        self.lqr = Lqr(solve_lqr(upright.A, upright.B, *cost).K, signals=("angle", "velocity"))
        self.low, self.high = task.low, task.high
        model, data = task.model, mujoco.MjData(task.model)
        mujoco.mj_forward(model, data)
        self.inertia = float(data.M[0])  # about the hinge [kg m^2]
        rod = model.body("rod").id
        # torque that holds it level [N m]
        self.weight = float(model.body_mass[rod] * -model.opt.gravity[2] * model.body_ipos[rod, 2])

    def __call__(self, obs: Tensor) -> Tensor:
        """Torque ``(N, 1)`` [N m] for observations ``(N, 3)``."""
        c = self.config
        cos, sin, velocity = obs.to(torch.float64).split(1, dim=1)
        energy = 0.5 * self.inertia * velocity.square() + self.weight * (cos - 1.0)
        pumped = (-c.pump * energy * velocity).clamp(self.low, self.high)
        state = {"angle": torch.atan2(sin, cos), "velocity": velocity}
        asked = self.lqr.command(torch.zeros(len(obs), 2, dtype=torch.float64), state)
        held = asked.clamp(self.low, self.high)
        far = ramp(asked.abs() / self.high, *c.hold)
        share = (1.0 - far) * ramp(cos, *c.near)
        return torch.lerp(pumped, held, share)

