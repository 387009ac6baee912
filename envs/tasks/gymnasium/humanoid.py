"""Humanoid and HumanoidStandup: one body, seen in full, that walks or gets up."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fermo.envs.core.constants import constant
from fermo.envs.core.task import Simulation
from fermo.envs.tasks.gymnasium.arithmetic import sum_squares, weighted
from fermo.envs.tasks.gymnasium.base import GymnasiumTask, LocomotionConfig, body_signal
from fermo.envs.tasks.gymnasium.healthy import CostlyContactTask, HealthyConfig
from fermo.signal import Signal


@dataclass(frozen=True, kw_only=True)
class HumanoidBodyConfig(LocomotionConfig):
    """Arguments shared by the two.

    Attributes:
        include_cinert_in_observation: Observe the bodies' inertias about the subtree's centre of mass.
        include_cvel_in_observation: Observe the bodies' velocities about it.
        include_qfrc_actuator_in_observation: Observe the actuators' torques.
        include_cfrc_ext_in_observation: Observe the contact forces.
    """

    frame_skip: int = 5
    reset_noise_scale: float = 1e-2
    ctrl_cost_weight: float = 0.1
    include_cinert_in_observation: bool = True
    include_cvel_in_observation: bool = True
    include_qfrc_actuator_in_observation: bool = True
    include_cfrc_ext_in_observation: bool = True


class HumanoidBody(GymnasiumTask):
    """Observations and costs of the humanoid."""

    config: HumanoidBodyConfig
    floor_coordinates = 2
    contact_forces_needed = True

    def derived_signals(self) -> tuple[Signal, ...]:
        """Inertias, velocities, actuator torques and contact forces, each unless excluded."""
        config, model = self.config, self.model
        signals = (
            (config.include_cinert_in_observation,
             body_signal(model, "cinert", 10, "kg m^2, kg m, kg", "inertia about the subtree's centre of mass")),
            (config.include_cvel_in_observation,
             body_signal(model, "cvel", 6, "rad/s, m/s", "velocity about the subtree's centre of mass")),
            (config.include_qfrc_actuator_in_observation,
             Signal.uniform(name="qfrc_actuator", shape=(model.nv - 6,), unit="N m", description="actuator torques")),
            (config.include_cfrc_ext_in_observation,
             body_signal(model, "cfrc_ext", 6, "N m, N", "contact torque and force on each body")),
        )  # fmt: skip
        return tuple(signal for included, signal in signals if included)

    def derived_observation(self, sim: Simulation) -> dict[str, Tensor]:
        """The values of `derived_signals`."""
        read = {
            "cinert": lambda: sim["cinert"][:, 1:],
            "cvel": lambda: sim["cvel"][:, 1:],
            "qfrc_actuator": lambda: sim["qfrc_actuator"][:, 6:],
            "cfrc_ext": lambda: self.contact_forces(sim)[:, 1:],
        }
        return {signal.name: read[signal.name]() for signal in self.spec.observations if signal.name in read}

    def impact_cost(self, sim: Simulation, weight: float, bounds: tuple[float, float]) -> Tensor:
        """`weight` times the squared contact forces, within `bounds`, ``(N,)``."""
        return weighted(weight, sum_squares(self.contact_forces(sim).flatten(1))).clamp(*bounds)


@dataclass(frozen=True, kw_only=True)
class HumanoidConfig(HumanoidBodyConfig, HealthyConfig):
    """Arguments of Humanoid-v5.

    Attributes:
        contact_cost_weight: Cost of the squared contact forces.
        contact_cost_range: The contact cost is clipped to it.
    """

    xml_file: str = "humanoid.xml"
    forward_reward_weight: float = 1.25
    contact_cost_weight: float = 5e-7
    contact_cost_range: tuple[float, float] = (-math.inf, 10.0)
    healthy_reward: float = 5.0
    healthy_z_range: tuple[float, float] = (1.0, 2.0)


class Humanoid(HumanoidBody, CostlyContactTask):
    """`fermo/Humanoid-v5`: 17 motors, 67 Hz, walks forward."""

    name = "fermo/Humanoid-v5"
    config: HumanoidConfig
    before_fields = ("xipos",)

    def __init__(self, config: HumanoidConfig | None = None) -> None:
        super().__init__(config or HumanoidConfig())

    def healthy(self, sim: Simulation) -> Tensor:
        """The torso is at a standing height."""
        low, high = self.config.healthy_z_range
        return (low < sim["qpos"][:, 2]) & (sim["qpos"][:, 2] < high)

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Forward, survive, ctrl, contact."""
        config = self.config
        velocity = self.velocity(self._centre_x(sim.before["xipos"]), self._centre_x(sim["xipos"]))
        return {
            "forward": config.forward_reward_weight * velocity,
            "survive": self.survive_reward(sim),
            "ctrl": -self.control_cost(sim["ctrl"]),
            "contact": -self.impact_cost(sim, config.contact_cost_weight, config.contact_cost_range),
        }

    def _centre_x(self, xipos: Tensor) -> Tensor:
        """Forward position of the centre of mass, ``(N,)`` [m]; bodies are added one after the other, as by einsum."""
        mass = constant(tuple(self.model.body_mass), xipos.device).to(xipos.dtype)
        return (mass * xipos[:, :, 0]).cumsum(dim=1)[:, -1] / float(self.model.body_mass.sum())


@dataclass(frozen=True, kw_only=True)
class HumanoidStandupConfig(HumanoidBodyConfig):
    """Arguments of HumanoidStandup-v5.

    Attributes:
        impact_cost_weight: Cost of the squared contact forces.
        impact_cost_range: The impact cost is clipped to it.
    """

    xml_file: str = "humanoidstandup.xml"
    impact_cost_weight: float = 0.5e-6
    impact_cost_range: tuple[float, float] = (-math.inf, 10.0)


class HumanoidStandup(HumanoidBody):
    """`fermo/HumanoidStandup-v5`: 17 motors, 67 Hz, gets up from the floor."""

    name = "fermo/HumanoidStandup-v5"
    config: HumanoidStandupConfig

    def __init__(self, config: HumanoidStandupConfig | None = None) -> None:
        super().__init__(config or HumanoidStandupConfig())

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Height over the physics step, ctrl, impact, and one for each step."""
        config, height = self.config, sim["qpos"][:, 2]
        return {
            "up": height / self.model.opt.timestep,
            "ctrl": -self.control_cost(sim["ctrl"]),
            "impact": -self.impact_cost(sim, config.impact_cost_weight, config.impact_cost_range),
            "alive": torch.ones_like(height),
        }
