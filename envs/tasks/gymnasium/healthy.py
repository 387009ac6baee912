"""Robots that are paid for staying healthy and whose episode ends when they are not."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor

from fermo.envs.core.task import Simulation
from fermo.envs.tasks.gymnasium.base import GymnasiumTask, LocomotionConfig


@dataclass(frozen=True, kw_only=True)
class HealthyConfig(LocomotionConfig):
    """Arguments of an environment with a healthy state.

    Attributes:
        forward_reward_weight: Reward per forward velocity.
        healthy_reward: Reward per step of being healthy.
        terminate_when_unhealthy: Whether an unhealthy robot ends its episode.
        healthy_z_range: Heights of the torso that are healthy [m].
    """

    forward_reward_weight: float = 1.0
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = True
    healthy_z_range: tuple[float, float]


class HealthyTask(GymnasiumTask):
    """A task with a notion of health."""

    config: HealthyConfig

    @abstractmethod
    def healthy(self, sim: Simulation) -> Tensor:
        """Whether the robot is upright and sound, ``(N,)`` bool."""

    def survive_reward(self, sim: Simulation) -> Tensor:
        """Paid for each healthy step, ``(N,)``."""
        return self.config.healthy_reward * self.healthy(sim).to(sim["qpos"].dtype)

    def terminated(self, sim: Simulation) -> Tensor:
        """Unhealthy, where that ends the episode."""
        if not self.config.terminate_when_unhealthy:
            return super().terminated(sim)
        return ~self.healthy(sim)


class CostlyContactTask(HealthyTask):
    """A healthy task that also pays for contact forces; Gymnasium adds its two costs before it subtracts them."""

    contact_forces_needed = True

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """``(forward + survive) - (ctrl + contact)``, rounded in this order."""
        return (terms["forward"] + terms["survive"]) + (terms["ctrl"] + terms["contact"])
