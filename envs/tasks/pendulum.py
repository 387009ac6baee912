"""Swing a pendulum up with a motor too weak to lift it, and hold it upright.

The cost ``angle^2 + 0.1 angle'^2 + 0.001 torque^2`` is that of Gymnasium's Pendulum. The angle is observed as
(cos, sin), which does not jump where a turn is complete.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

from fermo.assets.scenes import scene_path
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Simulation, Task
from fermo.errors import FermoError
from fermo.signal import PlantSpec, Signal


@dataclass(frozen=True, kw_only=True)
class PendulumConfig:
    """Where it starts and what it costs.

    Attributes:
        start_angle: Largest angle from upright at the start [rad]; pi is anywhere.
        start_velocity: Largest angular velocity at the start [rad/s].
        velocity_cost: Of the squared angular velocity [s^2/rad^2].
        torque_cost: Of the squared torque [1/(N m)^2].
        episode_s: Length of an episode [s].
    """

    start_angle: float = math.pi
    start_velocity: float = 1.0
    velocity_cost: float = 0.1
    torque_cost: float = 0.001
    episode_s: float = 10.0

    def __post_init__(self) -> None:
        if min(self.start_angle, self.start_velocity, self.velocity_cost, self.torque_cost) < 0:
            raise FermoError(f"starts and costs must not be negative, got {self}")
        if not self.episode_s > 0:
            raise FermoError(f"episode_s must be positive, got {self.episode_s}")


class Pendulum(Task):
    """`fermo/Pendulum-v0`: physics at 100 Hz, policy at 20 Hz, 10 s; the action is the hinge's torque [N m]."""

    name = "fermo/Pendulum-v0"
    substeps = 5
    upright = (0.1, 0.5)
    """Success is an angle [rad] and an angular velocity [rad/s], in that order, below these."""

    def __init__(self, config: PendulumConfig | None = None) -> None:
        self.config = config or PendulumConfig()
        self.model = mujoco.MjModel.from_xml_path(scene_path("pendulum"))
        self.low, self.high = low, high = tuple(self.model.actuator_ctrlrange[0].tolist())
        self.spec = PlantSpec(
            observations=(
                Signal.uniform(name="direction", shape=(2,), unit="1", low=-1.0, high=1.0,
                               description="(cos, sin) of the angle from upright"),
                Signal.uniform(name="velocity", shape=(1,), unit="rad/s"),
            ),
            commands=(Signal.uniform(name="torque", shape=(1,), unit="N m", low=low, high=high),),
            rate_hz=1.0 / self.control_dt,
        )  # fmt: skip
        self.max_steps = round(self.config.episode_s * self.spec.rate_hz)

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """Uniform in the box of starting states."""
        unit = random.uniform("start", (2,), low=-1.0, high=1.0)
        return self.config.start_angle * unit[:, :1], self.config.start_velocity * unit[:, 1:]

    def ctrl(self, action: Tensor, sim: Simulation) -> Tensor:
        """What of the torque the motor can give, ``(N, 1)`` [N m]."""
        return action.clamp(self.low, self.high)

    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        """Direction and angular velocity."""
        angle = sim["qpos"]
        return {"direction": torch.cat([torch.cos(angle), torch.sin(angle)], dim=1), "velocity": sim["qvel"]}

    def angle(self, sim: Simulation) -> Tensor:
        """From upright, in (-pi, pi], ``(N,)`` [rad]."""
        angle = sim["qpos"][:, 0]
        return torch.atan2(torch.sin(angle), torch.cos(angle))

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Minus the cost of the angle, the velocity and the torque."""
        return {
            "angle": -self.angle(sim).square(),
            "velocity": -self.config.velocity_cost * sim["qvel"][:, 0].square(),
            "torque": -self.config.torque_cost * sim["ctrl"][:, 0].square(),
        }

    def success(self, sim: Simulation) -> Tensor:
        """Upright, nearly at rest."""
        return (self.angle(sim).abs() < self.upright[0]) & (sim["qvel"][:, 0].abs() < self.upright[1])
