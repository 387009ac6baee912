"""Stack: put the red cube, A, on the green one, B."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from fermo.envs.core.task import Simulation
from fermo.envs.tasks.robosuite.base import RobosuiteConfig, RobosuiteTask, pose_signals
from fermo.signal import Signal

_A, _B = "cubeA_main", "cubeB_main"
_TABLE_HEIGHT = 0.8
_FULL = 2.0  # what success is worth before scaling


class Stack(RobosuiteTask):
    """`fermo/Robosuite-Stack-v0`: a Panda and two cubes, 20 Hz."""

    name = "fermo/Robosuite-Stack-v0"
    environment = "Stack"
    touches = (("pads", _A), (_A, _B))

    def __init__(self, config: RobosuiteConfig | None = None) -> None:
        super().__init__(config or RobosuiteConfig())

    def object_signals(self) -> tuple[Signal, ...]:
        """Both cubes' poses, and where each is from the other and from the tool."""
        return pose_signals(cubeA_pos=3, cubeA_quat=4, cubeB_pos=3, cubeB_quat=4, cubeA_to_cubeB=3,
                            gripper_to_cubeA=3, gripper_to_cubeB=3)  # fmt: skip

    def object_observation(self, sim: Simulation) -> dict[str, Tensor]:
        """Poses of the cubes, then the way from A to B and from the tool to each."""
        a, b, tool = self.body_position(sim, _A), self.body_position(sim, _B), self.tool_position(sim)
        return {
            "cubeA_pos": a,
            "cubeA_quat": self.body_quaternion(sim, _A),
            "cubeB_pos": b,
            "cubeB_quat": self.body_quaternion(sim, _B),
            "cubeA_to_cubeB": b - a,
            "gripper_to_cubeA": a - tool,
            "gripper_to_cubeB": b - tool,
        }

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Stack; with shaping also reach (and grasp) and lift (and align), of which the largest counts."""
        scale = self.config.reward_scale / _FULL
        terms = {"stack": scale * _FULL * self.success(sim).double()}
        if self.config.reward_shaping:
            a, b = self.body_position(sim, _A), self.body_position(sim, _B)
            distance = torch.linalg.vector_norm(self.tool_position(sim) - a, dim=1)
            apart = torch.linalg.vector_norm(a[:, :2] - b[:, :2], dim=1)
            grasped = self.touching(sim, "pads", _A).double()
            terms["reach"] = scale * (0.25 * (1.0 - torch.tanh(10.0 * distance)) + 0.25 * grasped)
            terms["lift"] = scale * torch.where(self._lifted(sim), 1.0 + 0.5 * (1.0 - torch.tanh(apart)), 0.0)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The largest of the terms."""
        return functools.reduce(torch.maximum, terms.values())

    def success(self, sim: Simulation) -> Tensor:
        """A is above the table, touches B, and is not held."""
        return self._lifted(sim) & self.touching(sim, _A, _B) & ~self.touching(sim, "pads", _A)

    def _lifted(self, sim: Simulation) -> Tensor:
        return self.body_position(sim, _A)[:, 2] > _TABLE_HEIGHT + 0.04
