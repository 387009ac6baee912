"""Lift: pick a cube up from the table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fermo.envs.core.task import Simulation
from fermo.envs.tasks.robosuite.base import RobosuiteConfig, RobosuiteTask, pose_signals
from fermo.errors import FermoError
from fermo.signal import Signal

_CUBE = "cube_main"
_TABLE_HEIGHT = 0.8
_FULL = 2.25  # what success is worth before scaling


@dataclass(frozen=True, kw_only=True)
class LiftConfig(RobosuiteConfig):
    """Arguments of Lift.

    Attributes:
        cube_half_size: Half the cube's edges [m]. robosuite draws each from 0.020 to 0.022 whenever it resets; here it
            is one size for all worlds and episodes.
    """

    cube_half_size: tuple[float, float, float] = (0.021, 0.021, 0.021)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.cube_half_size) != 3 or min(self.cube_half_size) <= 0.0:
            raise FermoError(f"cube_half_size is three positive lengths [m], got {self.cube_half_size}")


class Lift(RobosuiteTask):
    """`fermo/Robosuite-Lift-v0`: a Panda and a cube, 20 Hz."""

    name = "fermo/Robosuite-Lift-v0"
    environment = "Lift"
    touches = (("pads", _CUBE),)
    config: LiftConfig

    def __init__(self, config: LiftConfig | None = None) -> None:
        config = config or LiftConfig()
        self.sizes = (("cube_g0", config.cube_half_size), ("cube_g0_vis", config.cube_half_size))
        super().__init__(config)
        (cube,) = self.scene.placements
        height = config.cube_half_size[2]
        self.scene = replace(self.scene, placements=(replace(cube, bottom=-height, top=height),))

    def object_signals(self) -> tuple[Signal, ...]:
        """The cube's pose, and where it is from the tool."""
        return pose_signals(cube_pos=3, cube_quat=4, gripper_to_cube_pos=3)

    def object_observation(self, sim: Simulation) -> dict[str, Tensor]:
        """Cube position, orientation, position from the tool."""
        cube = self.body_position(sim, _CUBE)
        return {
            "cube_pos": cube,
            "cube_quat": self.body_quaternion(sim, _CUBE),
            "gripper_to_cube_pos": cube - self.tool_position(sim),
        }

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Lift; with shaping, until then, reach and grasp."""
        scale = self.config.reward_scale / _FULL
        lifted = self.success(sim)
        terms = {"lift": scale * _FULL * lifted.double()}
        if self.config.reward_shaping:
            distance = torch.linalg.vector_norm(self.body_position(sim, _CUBE) - self.tool_position(sim), dim=1)
            grasped = self.touching(sim, "pads", _CUBE)
            terms["reach"] = torch.where(lifted, 0.0, scale * (1.0 - torch.tanh(10.0 * distance)))
            terms["grasp"] = torch.where(lifted, 0.0, scale * 0.25 * grasped.double())
        return terms

    def success(self, sim: Simulation) -> Tensor:
        """The cube is 4 cm above the table."""
        return self.body_position(sim, _CUBE)[:, 2] > _TABLE_HEIGHT + 0.04
