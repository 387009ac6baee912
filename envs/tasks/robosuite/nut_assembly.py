"""NutAssemblySquare: put a square nut over its peg."""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Simulation
from fermo.envs.tasks.robosuite.base import RobosuiteConfig, RobosuiteTask, pose_signals
from fermo.envs.tasks.robosuite.rotations import relative_pose, scalar_last
from fermo.signal import Signal

_NUTS = ("SquareNut_main", "RoundNut_main")
_HANDLES = ("SquareNut_handle_site", "RoundNut_handle_site")
_PEGS = ("peg1", "peg2")
_TABLE_HEIGHT = 0.82
_AWAY = (10.0, 10.0, 10.0, 1.0, 0.0, 0.0, 0.0)
_REACH, _GRASP, _LIFT, _HOVER = 0.1, 0.35, 0.5, 0.7  # what each stage is worth


class NutAssemblySquare(RobosuiteTask):
    """`fermo/Robosuite-NutAssemblySquare-v0`: a Panda, a square nut and two pegs, 20 Hz.

    The round nut of the full assembly is there too, dropped far away at reset, and reward counts it as robosuite does.
    The nut is observed from the tool as it was one control step earlier, and as zeros at reset: robosuite reads it
    from its cache before it writes it.
    """

    name = "fermo/Robosuite-NutAssemblySquare-v0"
    environment = "NutAssemblySquare"
    sites = _HANDLES
    touches = tuple(("pads", nut) for nut in _NUTS)
    before_fields = ("xpos", "xquat")

    def __init__(self, config: RobosuiteConfig | None = None) -> None:
        super().__init__(config or RobosuiteConfig())

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """As everywhere, but for the round nut."""
        qpos, qvel = super().initial_state(random)
        start = self.model.joint("RoundNut_joint0").qposadr[0]
        qpos[:, start : start + 7] = qpos.new_tensor(_AWAY)
        return qpos, qvel

    def object_signals(self) -> tuple[Signal, ...]:
        """The nut's pose from the tool and in the world."""
        return pose_signals(SquareNut_to_robot0_eef_pos=3, SquareNut_to_robot0_eef_quat=4, SquareNut_pos=3,
                            SquareNut_quat=4)  # fmt: skip

    def object_observation(self, sim: Simulation) -> dict[str, Tensor]:
        """Relative pose, as of the last control step, then the pose now."""
        nut = self.model.body(_NUTS[0]).id
        seen = sim.before["xpos"][:, nut], scalar_last(sim.before["xquat"][:, nut])
        position, turn = relative_pose(*seen, self.tool_position(sim), self.hand_quaternion(sim))
        fresh = (sim.steps == 0)[:, None]
        return {
            "SquareNut_to_robot0_eef_pos": torch.where(fresh, 0.0, position),
            "SquareNut_to_robot0_eef_quat": torch.where(fresh, 0.0, turn.to(position.dtype)),
            "SquareNut_pos": self.body_position(sim, _NUTS[0]),
            "SquareNut_quat": self.body_quaternion(sim, _NUTS[0]),
        }

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Nuts on pegs; with shaping also reach, grasp, lift and hover, of which the largest counts."""
        scale, done = self.config.reward_scale, self._on_pegs(sim)
        terms = {"on_peg": scale * done.sum(dim=1).to(sim["qpos"].dtype)}
        if self.config.reward_shaping:
            terms |= {name: scale * value for name, value in self._stages(sim, ~done).items()}
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Nuts on pegs, and the largest of the stages."""
        stages = [value for name, value in terms.items() if name != "on_peg"]
        return terms["on_peg"] + functools.reduce(torch.maximum, stages) if stages else terms["on_peg"]

    def success(self, sim: Simulation) -> Tensor:
        """A nut is on its peg and the tool has left it."""
        return self._on_pegs(sim).any(dim=1)

    def _stages(self, sim: Simulation, active: Tensor) -> dict[str, Tensor]:
        """Progress with the nuts that are `active` ``(N, 2)``."""
        tool = self.tool_position(sim)
        handles = torch.stack([self.site_position(sim, handle) for handle in _HANDLES], dim=1)
        far = torch.linalg.vector_norm(handles - tool[:, None], dim=2)
        nearest = far.masked_fill(~active, torch.inf).amin(dim=1)
        pads = [self._pad_touches(sim, side) for side in (0, 1)]
        grasped = functools.reduce(torch.logical_and, [(touch & active).any(dim=1) for touch in pads])
        nuts = torch.stack([self.body_position(sim, nut) for nut in _NUTS], dim=1)
        target = self.body_position(sim, "table")[:, 2:] + 0.2
        missing = (target - nuts[:, :, 2]).clamp(min=0.0).masked_fill(~active, torch.inf).amin(dim=1)
        lift = torch.where(grasped, _GRASP + (1.0 - torch.tanh(15.0 * missing)) * (_LIFT - _GRASP), 0.0)
        pegs = torch.stack([self.body_position(sim, peg) for peg in _PEGS], dim=1)
        apart = torch.linalg.vector_norm((pegs - nuts)[:, :, :2], dim=2)
        hover = lift[:, None] + (1.0 - torch.tanh(10.0 * apart)) * (_HOVER - _LIFT)
        return {
            "reach": (1.0 - torch.tanh(10.0 * nearest)) * _REACH,
            "grasp": _GRASP * grasped.to(lift.dtype),
            "lift": lift,
            "hover": hover.masked_fill(~active, 0.0).amax(dim=1),
        }

    def _pad_touches(self, sim: Simulation, side: int) -> Tensor:
        """Which nuts a pad touches, ``(N, 2)`` bool."""
        return torch.stack([self.part_touching(sim, "pads", nut, side) for nut in _NUTS], dim=1)

    def _on_pegs(self, sim: Simulation) -> Tensor:
        """Which nuts lie about their pegs with the tool away from them, ``(N, 2)`` bool."""
        rows = []
        for nut_name, peg_name in zip(_NUTS, _PEGS, strict=True):
            nut, peg = self.body_position(sim, nut_name), self.body_position(sim, peg_name)
            about = ((nut - peg)[:, :2].abs() < 0.03).all(dim=1) & (nut[:, 2] < _TABLE_HEIGHT + 0.05)
            distance = torch.linalg.vector_norm(self.tool_position(sim) - nut, dim=1)
            rows.append(about & (1.0 - torch.tanh(10.0 * distance) < 0.6))
        return torch.stack(rows, dim=1)
