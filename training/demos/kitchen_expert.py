"""A scripted expert for FrankaKitchen: four sub-tasks in an order that a fixed Markov chain draws."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.tasks import franka_kitchen_metrics as metrics
from fermo.envs.tasks.franka_kitchen import ARM, ROBOT, FrankaKitchen
from fermo.errors import FermoError
from fermo.training.demos.kitchen_arm import KitchenArm
from fermo.training.demos.kitchen_chain import draw_orders
from fermo.training.demos.kitchen_hand import WalkingHand
from fermo.training.demos.kitchen_skills import VARIANTS, KitchenSkills


@dataclass(frozen=True, kw_only=True)
class KitchenExpertConfig:
    """Speeds, and how a demonstration departs from the script.

    Attributes:
        speed: Of the finger tips on their way [m/s].
        turn_speed: Of the hand [rad/s].
        speed_spread: Each demonstration is this much faster or slower, as a share.
        patience: Steps to wait for the hand where the target has arrived.
        satisfied: The hand lets go of a thing that is nearer than this to its goal.
        done: A sub-task is left alone when it is nearer than this to its goal; the benchmark counts from 0.3.
        attempts: How often to try a sub-task before going on to the next.
        miss_share: Share of sub-tasks whose first attempt misses.
        miss: By how much, sideways [m].
        noise: Stationary deviation of the actions' noise.
        noise_time: Its time constant [s].
    """

    speed: float = 0.45
    turn_speed: float = 2.0
    speed_spread: float = 0.2
    patience: int = 6
    satisfied: float = 0.12
    done: float = 0.28
    attempts: int = 3
    miss_share: float = 0.05
    miss: float = 0.06
    noise: float = 0.05
    noise_time: float = 0.3

    def __post_init__(self) -> None:
        for name in ("speed", "turn_speed", "noise_time", "attempts"):
            if not 0 < getattr(self, name) < math.inf:
                raise FermoError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("speed_spread", "miss_share"):
            if not 0 <= getattr(self, name) < 1:
                raise FermoError(f"{name} must lie in [0, 1), got {getattr(self, name)}")


class KitchenExpert:
    """The script for every episode that a batch begins.

    Args:
        task: Whose kitchen it is.
        config: Speeds and departures.
    """

    def __init__(self, task: FrankaKitchen, config: KitchenExpertConfig | None = None) -> None:
        self.task, self.config = task, config or KitchenExpertConfig()
        self.arm, self.skills = KitchenArm(task), KitchenSkills(task)

    def begin(self, random: WorldRandom) -> KitchenCook:
        """The script for the present episodes of `random`; the order is drawn from the world's own stream."""
        return KitchenCook(self, draw_orders(random), random)


class KitchenCook:
    """Does sub-tasks one after the other in N worlds, for one episode.

    Args:
        expert: Whose arm, skills and settings to use.
        orders: Numbers of the sub-tasks to do, shape ``(N, k)`` int64.
        random: What variants, speeds, misses and noise are drawn from.
    """

    def __init__(self, expert: KitchenExpert, orders: Tensor, random: WorldRandom) -> None:
        self.expert, self.config, self.orders, self.random = expert, expert.config, orders, random
        n, slots = orders.shape
        c = self.config
        self.variants = random.uniform("expert variants", (slots,), high=VARIANTS).long()
        spread = random.uniform("expert speed", low=-1.0, high=1.0)
        self.pace = 1.0 + c.speed_spread * spread
        self.misses = random.uniform("expert misses", (slots,)) < c.miss_share
        self.sideways = c.miss * (random.uniform("expert miss", (slots,), low=-1.0).sign())
        self.worlds = torch.arange(n)
        self.slot, self.attempt = torch.zeros_like(self.worlds), torch.zeros_like(self.worlds)
        self.noise = torch.zeros(n, expert.task.spec.command_size, dtype=torch.float64)
        self.hand: WalkingHand | None = None
        self.joints = torch.zeros(n, 7, dtype=torch.float64)
        self.step = 0

    def __call__(self, obs: Tensor) -> Tensor:
        """Actions ``(N, 9)`` for observations ``(N, 30)``; called once a step."""
        qpos = obs.to(torch.float64)
        robot, arm = qpos[:, ROBOT], self.expert.arm
        tips, rotation = arm.pose(robot[:, ARM])
        if self.hand is None:
            self.hand = self._new_hand(tips, rotation)
            self.joints = robot[:, ARM].clone()
            self._plan(self.hand, torch.ones_like(self.misses[:, 0]), qpos)
        self._go_on(self.hand, qpos)
        self.hand.advance(tips)
        self.joints = arm.inverse.solve(self.hand.position, self.hand.rotation, self.joints)
        target = torch.cat([self.joints, self.hand.opening[:, None].expand(-1, 2)], dim=1)
        action = arm.action(robot, target) + self._noise()
        self.step += 1
        return action.clamp(-1.0, 1.0)

    def _new_hand(self, tips: Tensor, rotation: Tensor) -> WalkingHand:
        c, dt = self.config, self.expert.task.control_dt
        return WalkingHand(tips, rotation, longest=c.speed * dt * self.pace, widest=c.turn_speed * dt * self.pace,
                           patience=c.patience)  # fmt: skip

    @property
    def idle(self) -> Tensor:
        """Whether everything was done or given up, ``(N,)`` bool."""
        return self.slot >= self.orders.shape[1]

    def _go_on(self, hand: WalkingHand, qpos: Tensor) -> None:
        """Let go of what is where it shall be. Where a chain has ended, try again what is not done, or go on."""
        current = self.orders[self.worlds, self.slot.clamp_max(self.orders.shape[1] - 1)]
        distance = metrics.distances(qpos)[self.worlds, current]
        hand.leave(distance < self.config.satisfied)
        ended = hand.idle & ~self.idle
        if not ended.any():
            return
        over = ended & ((distance < self.config.done) | (self.attempt + 1 >= self.config.attempts))
        self.attempt = torch.where(ended, self.attempt + 1, self.attempt).masked_fill(over, 0)
        self.slot = self.slot + over
        self._plan(hand, ended & ~self.idle, qpos)

    def _plan(self, hand: WalkingHand, rows: Tensor, qpos: Tensor) -> None:
        """New chains in the worlds of `rows` ``(N,)`` bool; what failed one way is tried the other way."""
        slot = self.slot.clamp_max(self.orders.shape[1] - 1)
        current = self.orders[self.worlds, slot]
        variant = (self.variants[self.worlds, slot] + self.attempt) % VARIANTS
        miss = self.misses[self.worlds, slot] & (self.attempt == 0)
        for subtask, number, missing in itertools.product(range(len(metrics.SUBTASKS)), range(VARIANTS), (False, True)):
            alike = (current == subtask) & (variant == number) & (miss == missing)
            chosen = torch.nonzero(rows & alike).flatten()
            if len(chosen):
                ways = self.expert.skills.plan(subtask, number, qpos[chosen])
                hand.set_out(chosen, ways.missing(self.sideways[chosen, slot[chosen]]) if missing else ways)

    def _noise(self) -> Tensor:
        """The next value of an Ornstein-Uhlenbeck process, ``(N, 9)``."""
        keep = math.exp(-self.expert.task.control_dt / self.config.noise_time)
        kick = self.random.normal("expert noise", (self.noise.shape[1],), step=self.step)
        self.noise = keep * self.noise + math.sqrt(1.0 - keep**2) * self.config.noise * kick
        return self.noise
