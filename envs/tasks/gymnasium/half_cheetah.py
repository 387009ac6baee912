"""HalfCheetah: a planar runner that cannot fall."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from fermo.envs.core.task import Simulation
from fermo.envs.tasks.gymnasium.base import GymnasiumTask, LocomotionConfig


@dataclass(frozen=True, kw_only=True)
class HalfCheetahConfig(LocomotionConfig):
    """Arguments of HalfCheetah-v5.

    Attributes:
        forward_reward_weight: Reward per forward velocity.
    """

    xml_file: str = "half_cheetah.xml"
    frame_skip: int = 5
    reset_noise_scale: float = 0.1
    ctrl_cost_weight: float = 0.1
    forward_reward_weight: float = 1.0


class HalfCheetah(GymnasiumTask):
    """`fermo/HalfCheetah-v5`: two legs, six motors, 20 Hz."""

    name = "fermo/HalfCheetah-v5"
    config: HalfCheetahConfig
    floor_coordinates = 1
    normal_velocity_noise = True
    before_fields = ("qpos",)

    def __init__(self, config: HalfCheetahConfig | None = None) -> None:
        super().__init__(config or HalfCheetahConfig())

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Forward, ctrl."""
        velocity = self.velocity(sim.before["qpos"][:, 0], sim["qpos"][:, 0])
        return {"forward": self.config.forward_reward_weight * velocity, "ctrl": -self.control_cost(action)}
