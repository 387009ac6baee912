"""Ant: a four-legged robot that also feels its contacts."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fermo.envs.core.task import Simulation
from fermo.envs.tasks.gymnasium.arithmetic import sum_squares, weighted
from fermo.envs.tasks.gymnasium.base import body_signal
from fermo.envs.tasks.gymnasium.healthy import CostlyContactTask, HealthyConfig
from fermo.signal import Signal


@dataclass(frozen=True, kw_only=True)
class AntConfig(HealthyConfig):
    """Arguments of Ant-v5.

    Attributes:
        contact_cost_weight: Cost of the squared contact forces.
        main_body: Body whose forward velocity is paid, by number or name.
        contact_force_range: Contact forces are clipped to it [N m, N].
        include_cfrc_ext_in_observation: Observe the contact forces.
    """

    xml_file: str = "ant.xml"
    frame_skip: int = 5
    reset_noise_scale: float = 0.1
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    main_body: int | str = 1
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    include_cfrc_ext_in_observation: bool = True


class Ant(CostlyContactTask):
    """`fermo/Ant-v5`: four legs, eight motors, 20 Hz."""

    name = "fermo/Ant-v5"
    config: AntConfig
    floor_coordinates = 2
    normal_velocity_noise = True
    before_fields = ("xpos",)

    def __init__(self, config: AntConfig | None = None) -> None:
        super().__init__(config or AntConfig())
        self._main_body = self.model.body(self.config.main_body).id

    def derived_signals(self) -> tuple[Signal, ...]:
        """The contact forces, unless excluded."""
        if not self.config.include_cfrc_ext_in_observation:
            return ()
        return (body_signal(self.model, "cfrc_ext", 6, "N m, N", "contact torque and force on each body, clipped"),)

    def derived_observation(self, sim: Simulation) -> dict[str, Tensor]:
        """The contact forces, unless excluded."""
        return {"cfrc_ext": self.contact_forces(sim)[:, 1:]} if self.config.include_cfrc_ext_in_observation else {}

    def contact_forces(self, sim: Simulation) -> Tensor:
        """Clipped to the configured range."""
        return super().contact_forces(sim).clamp(*self.config.contact_force_range)

    def healthy(self, sim: Simulation) -> Tensor:
        """The torso is neither low nor high, and the state finite."""
        qpos, (low, high) = sim["qpos"], self.config.healthy_z_range
        finite = torch.isfinite(qpos).all(dim=1) & torch.isfinite(sim["qvel"]).all(dim=1)
        return finite & (low <= qpos[:, 2]) & (qpos[:, 2] <= high)

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Forward, survive, ctrl, contact."""
        body = self._main_body
        velocity = self.velocity(sim.before["xpos"][:, body, 0], sim["xpos"][:, body, 0])
        contact = sum_squares(self.contact_forces(sim).flatten(1))
        return {
            "forward": self.config.forward_reward_weight * velocity,
            "survive": self.survive_reward(sim),
            "ctrl": -self.control_cost(action),
            "contact": -weighted(self.config.contact_cost_weight, contact),
        }
