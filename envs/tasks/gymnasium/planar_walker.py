"""Hopper and Walker2d: planar legged robots that must not fall over."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from fermo.envs.core.task import Simulation
from fermo.envs.tasks.gymnasium.healthy import HealthyConfig, HealthyTask


@dataclass(frozen=True, kw_only=True)
class PlanarWalkerConfig(HealthyConfig):
    """Arguments shared by the two.

    Attributes:
        healthy_angle_range: Angles of the torso that are healthy [rad].
    """

    frame_skip: int = 4
    reset_noise_scale: float = 5e-3
    ctrl_cost_weight: float = 1e-3
    healthy_angle_range: tuple[float, float]


class PlanarWalker(HealthyTask):
    """Forward velocity and survival minus the cost of control."""

    config: PlanarWalkerConfig
    floor_coordinates = 1
    velocity_limit = 10.0
    before_fields = ("qpos",)

    def healthy(self, sim: Simulation) -> Tensor:
        """Height and angle of the torso are within their ranges."""
        z, angle = sim["qpos"][:, 1], sim["qpos"][:, 2]
        (low_z, high_z), (low_angle, high_angle) = self.config.healthy_z_range, self.config.healthy_angle_range
        return (low_z < z) & (z < high_z) & (low_angle < angle) & (angle < high_angle)

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Forward, survive, ctrl."""
        velocity = self.velocity(sim.before["qpos"][:, 0], sim["qpos"][:, 0])
        return {
            "forward": self.config.forward_reward_weight * velocity,
            "survive": self.survive_reward(sim),
            "ctrl": -self.control_cost(action),
        }


@dataclass(frozen=True, kw_only=True)
class HopperConfig(PlanarWalkerConfig):
    """Arguments of Hopper-v5.

    Attributes:
        healthy_state_range: Every other coordinate and every velocity must lie in it.
    """

    xml_file: str = "hopper.xml"
    healthy_z_range: tuple[float, float] = (0.7, math.inf)
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)
    healthy_state_range: tuple[float, float] = (-100.0, 100.0)


class Hopper(PlanarWalker):
    """`fermo/Hopper-v5`: one leg, three motors, 125 Hz."""

    name = "fermo/Hopper-v5"
    config: HopperConfig

    def __init__(self, config: HopperConfig | None = None) -> None:
        super().__init__(config or HopperConfig())

    def healthy(self, sim: Simulation) -> Tensor:
        """As for every planar walker, and no coordinate or velocity is out of range."""
        low, high = self.config.healthy_state_range
        qpos, qvel = sim["qpos"][:, 2:], sim["qvel"]
        in_range = ((low < qpos) & (qpos < high)).all(dim=1) & ((low < qvel) & (qvel < high)).all(dim=1)
        return super().healthy(sim) & in_range


@dataclass(frozen=True, kw_only=True)
class Walker2dConfig(PlanarWalkerConfig):
    """Arguments of Walker2d-v5."""

    xml_file: str = "walker2d_v5.xml"
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)


class Walker2d(PlanarWalker):
    """`fermo/Walker2d-v5`: two legs, six motors, 125 Hz."""

    name = "fermo/Walker2d-v5"
    config: Walker2dConfig

    def __init__(self, config: Walker2dConfig | None = None) -> None:
        super().__init__(config or Walker2dConfig())
