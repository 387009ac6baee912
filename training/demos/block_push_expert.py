"""A scripted expert for BlockPush that shows all four ways to do it, each as often as the others.

The script is that of the benchmark (Florence et al., "Implicit behavioral cloning", CoRL 2021): stand behind the block
as seen from its target, touch it, push, turn it where it has come askew; then back the way one came, and the other
block. It remembers which part it is in, so a policy that imitates it has to infer that from what it sees.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.tasks.block_push import BlockPush
from fermo.envs.tasks.block_push_metrics import MODES, assignment


@dataclass(frozen=True, kw_only=True)
class BlockPushExpertConfig:
    """Distances, angles and paces of the script.

    Attributes:
        behind: From the block's centre to where the approach ends [m].
        touching: To where the push begins [m]; a block's face is 0.02 m from its centre.
        pressing: To where the push aims, inside the block, so that the effector's target leads it [m].
        circle: Radius of the circle on which the effector drags a corner round, to turn the block [m].
        arc: How far ahead on that circle it aims [rad].
        crooked: A block turned further than this from the way to its target is turned first [rad].
        straight: Until it is nearer than this [rad].
        arrived: A place is reached within this [m].
        passed: One on the way from the first block to the second [m]; nothing hangs on where exactly it is passed.
        delivered: The first block is left when it is nearer than this to its target [m].
        travel_speed: Of approach, contact and retreat [m/s].
        push_speed: Of the push [m/s].
        turn_speed: While turning a block [m/s].
    """

    behind: float = 0.05
    touching: float = 0.03
    pressing: float = 0.01
    circle: float = 0.025
    arc: float = 0.2
    crooked: float = 0.2
    straight: float = 0.03
    arrived: float = 0.001
    passed: float = 0.02
    delivered: float = 0.04
    travel_speed: float = 0.30
    push_speed: float = 0.35
    turn_speed: float = 0.15


class Phase(IntEnum):
    """Parts of the script, in the order in which arriving leads from one to the next."""

    RETREAT = 0
    RETURN = 1
    APPROACH = 2
    CONTACT = 3
    PUSH = 4
    TURN_LEFT = 5
    TURN_RIGHT = 6


class BlockPushExpert:
    """The script for every episode that a batch begins.

    Args:
        task: Whose signals and rate to use.
        config: Distances, angles and paces.
    """

    def __init__(self, task: BlockPush, config: BlockPushExpertConfig | None = None) -> None:
        self.task, self.config = task, config or BlockPushExpertConfig()

    def begin(self, random: WorldRandom) -> BlockPusher:
        """The script for the present episodes of `random`; the mode is drawn from the world's own stream."""
        modes = random.uniform("expert mode", (), high=MODES).long()
        first_block, target_of = assignment(modes)
        targets = self.task.draw_targets(random)
        goals = targets.gather(1, target_of[:, :, None].expand(-1, -1, 2))
        return BlockPusher(self.task, goals, first_block, self.config)


class BlockPusher:
    """Pushes two blocks to given places, one after the other, in N worlds for one episode.

    Args:
        task: Whose signals and rate to use.
        goals: Where each block shall go, shape ``(N, 2, 2)`` over (block, xy) [m].
        first_block: Which block goes first, shape ``(N,)`` int64.
        config: Distances, angles and paces.
    """

    def __init__(self, task: BlockPush, goals: Tensor, first_block: Tensor, config: BlockPushExpertConfig) -> None:
        self.config, self.goals, self.block = config, goals, first_block
        self.slices = task.spec.observation_slices()
        c, rate = config, task.spec.rate_hz
        speeds = {Phase.PUSH: c.push_speed, Phase.CONTACT: c.push_speed, Phase.TURN_LEFT: c.turn_speed,
                  Phase.TURN_RIGHT: c.turn_speed}  # fmt: skip
        self.longest = torch.tensor([speeds.get(phase, c.travel_speed) / rate for phase in Phase], dtype=torch.float64)
        self.worlds = torch.arange(len(goals))
        self.phase = torch.full_like(first_block, Phase.APPROACH)
        self.on_second = torch.zeros_like(first_block, dtype=torch.bool)
        self.origin: Tensor | None = None  # where the effector was first sent from, (N, 2)
        self.gateway = torch.full((len(goals), 2), math.nan, dtype=torch.float64)  # the first place behind a block

    def __call__(self, obs: Tensor) -> Tensor:
        """Displacement ``(N, 2)`` [m] for observations ``(N, observation_size)``; called once a step."""
        obs = obs.to(torch.float64)
        effector = obs[:, self.slices["effector_target"]]
        if self.origin is None:
            self.origin = effector.clone()
        self._switch(obs)
        block, yaw = self._pose(obs)
        ahead = self.goals[self.worlds, self.block] - block
        ahead = ahead / ahead.norm(dim=1, keepdim=True)
        error = _quarter_turn(torch.atan2(ahead[:, 1], ahead[:, 0]) - yaw)
        places = self._places(block, ahead, effector)
        self._advance(places, effector, error)
        way = places[self.worlds, self.phase] - effector
        longest = self.longest[self.phase][:, None]
        return way * (longest / way.norm(dim=1, keepdim=True).clamp_min(longest))

    def _pose(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Position ``(N, 2)`` [m] and yaw ``(N,)`` [rad] of the block in hand."""
        position, yaw = (
            torch.stack([obs[:, self.slices[f"block_{i}_{what}"]] for i in (1, 2)], dim=1)
            for what in ("position", "yaw")
        )
        return position[self.worlds, self.block], yaw[self.worlds, self.block, 0]

    def _switch(self, obs: Tensor) -> None:
        """Leave a first block that has arrived, and see to the other."""
        distance = (self._pose(obs)[0] - self.goals[self.worlds, self.block]).norm(dim=1)
        switch = (distance < self.config.delivered) & ~self.on_second
        self.block = torch.where(switch, 1 - self.block, self.block)
        self.phase = self.phase.masked_fill(switch, Phase.RETREAT)
        self.on_second = self.on_second | switch

    def _places(self, block: Tensor, ahead: Tensor, effector: Tensor) -> Tensor:
        """Where each phase goes, ``(N, phases, 2)`` [m]."""
        c, origin = self.config, self.origin
        assert origin is not None
        outward = effector - block
        outward = outward / outward.norm(dim=1, keepdim=True).clamp_min(1e-9)
        places = {
            Phase.RETREAT: torch.where(self.gateway.isnan(), origin, self.gateway),
            Phase.RETURN: origin,
            Phase.APPROACH: block - c.behind * ahead,
            Phase.CONTACT: block - c.touching * ahead,
            Phase.PUSH: block - c.pressing * ahead,
            Phase.TURN_LEFT: block + c.circle * _rotate(outward, c.arc),
            Phase.TURN_RIGHT: block + c.circle * _rotate(outward, -c.arc),
        }
        return torch.stack([places[phase] for phase in Phase], dim=1)

    def _advance(self, places: Tensor, effector: Tensor, error: Tensor) -> None:
        """Go on to the phase that follows, where this one is over; `error` is the turn the block lacks [rad]."""
        c, phase = self.config, self.phase
        near = torch.where(phase <= Phase.RETURN, c.passed, c.arrived)
        arrived = (places[self.worlds, phase] - effector).norm(dim=1) < near
        crooked = error.abs() > c.crooked
        behind = arrived & (phase == Phase.APPROACH)
        self.gateway = torch.where((behind[:, None]) & self.gateway.isnan(), effector, self.gateway)
        phase = torch.where(arrived & (phase < Phase.PUSH), phase + 1, phase)
        turned = (phase == Phase.TURN_LEFT) & (error < c.straight) | (phase == Phase.TURN_RIGHT) & (error > -c.straight)
        again = turned | (self.phase == Phase.PUSH) & crooked
        turning = torch.where(error > 0, Phase.TURN_LEFT, Phase.TURN_RIGHT)
        touching = (phase == Phase.CONTACT) | (phase == Phase.PUSH)
        phase = torch.where(touching & crooked & ~again, turning, phase)
        self.phase = phase.masked_fill(again, Phase.APPROACH)


def _quarter_turn(angle: Tensor) -> Tensor:
    """`angle` modulo the block's fourfold symmetry, in [-pi/4, pi/4) [rad]."""
    return torch.remainder(angle + math.pi / 4, math.pi / 2) - math.pi / 4


def _rotate(direction: Tensor, angle: float) -> Tensor:
    """`direction` ``(N, 2)`` turned counterclockwise by `angle` [rad]."""
    (x, y), c, s = direction.unbind(dim=1), math.cos(angle), math.sin(angle)
    return torch.stack([c * x - s * y, s * x + c * y], dim=1)
