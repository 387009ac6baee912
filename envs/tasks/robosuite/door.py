"""Door: turn the handle of a latched door and pull it open."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Simulation
from fermo.envs.tasks.robosuite.base import RobosuiteConfig, RobosuiteTask, pose_signals
from fermo.envs.tasks.robosuite.placement import place
from fermo.signal import Signal

_DOOR, _HANDLE = "Door_door", "Door_handle"


class Door(RobosuiteTask):
    """`fermo/Robosuite-Door-v0`: a Panda and a door whose frame stands elsewhere in every episode, 20 Hz."""

    name = "fermo/Robosuite-Door-v0"
    environment = "Door"
    sites = (_HANDLE,)

    def __init__(self, config: RobosuiteConfig | None = None) -> None:
        super().__init__(config or RobosuiteConfig())
        self._hinge = int(self.model.joint("Door_hinge").qposadr[0])
        self._latch = int(self.model.joint("Door_latch_joint").qposadr[0])

    def initial_parameters(self, random: WorldRandom) -> dict[str, Tensor]:
        """The frame has no joint: it is the model that places it."""
        (frame,) = self.scene.placements
        (pose,) = place(self.scene.placements, random)
        body = self.model.body(frame.body).id
        position, quaternion = (
            torch.as_tensor(field, device=pose.device).repeat(len(pose), 1, 1)
            for field in (self.model.body_pos, self.model.body_quat)
        )
        position[:, body], quaternion[:, body] = pose[:, :3], pose[:, 3:]
        return {"body_pos": position, "body_quat": quaternion}

    def object_signals(self) -> tuple[Signal, ...]:
        """Door and handle, from the world and from the tool, and the angles of hinge and handle."""
        return pose_signals(door_pos=3, handle_pos=3, hinge_qpos=1, door_to_eef_pos=3, handle_to_eef_pos=3,
                            handle_qpos=1)  # fmt: skip

    def object_observation(self, sim: Simulation) -> dict[str, Tensor]:
        """Positions of door and handle, hinge angle, both positions from the tool, handle angle."""
        door, handle, tool = self.body_position(sim, _DOOR), self.site_position(sim, _HANDLE), self.tool_position(sim)
        return {
            "door_pos": door,
            "handle_pos": handle,
            "hinge_qpos": sim["qpos"][:, self._hinge, None],
            "door_to_eef_pos": door - tool,
            "handle_to_eef_pos": handle - tool,
            "handle_qpos": sim["qpos"][:, self._latch, None],
        }

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Open; with shaping, until then, reach and turn."""
        scale = self.config.reward_scale
        opened = self.success(sim)
        terms = {"open": scale * opened.double()}
        if self.config.reward_shaping:
            way = self.site_position(sim, _HANDLE) - self.tool_position(sim)
            reach = 0.25 * (1.0 - torch.tanh(10.0 * torch.linalg.vector_norm(way, dim=1)))
            turn = (0.25 * (sim["qpos"][:, self._latch] / (0.5 * math.pi)).abs()).clamp(max=0.25)
            terms["reach"] = torch.where(opened, 0.0, scale * reach)
            terms["turn"] = torch.where(opened, 0.0, scale * turn)
        return terms

    def success(self, sim: Simulation) -> Tensor:
        """The hinge has turned by 0.3 rad."""
        return sim["qpos"][:, self._hinge] > 0.3
