"""Flow matching on straight lines from noise to data (Lipman et al. 2023; Liu et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from fermo.policies.beso.config import FlowConfig
from fermo.policies.beso.objective import Network, Objective
from fermo.policies.windowed.world_noise import Noise

Velocity = Callable[[Tensor, float], Tensor]


class FlowMatching(Objective):
    """At time t an action is ``t clean + (1 - t) noise`` and moves at ``clean - noise``; the level is 1 - t."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        self.config = config

    def draw_levels(self, shape: tuple[int, ...], device: Tensor) -> Tensor:
        """Uniform."""
        return 1 - torch.rand(shape, device=device.device)  # in (0, 1]: 0 would mean a clean action

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """``(1 - level) clean + level noise``."""
        return torch.lerp(clean, noise, level[..., None])

    def network_input(self, noised: Tensor, level: Tensor) -> Tensor:
        """As it is."""
        return noised

    def network_level(self, level: Tensor) -> Tensor:
        """As it is."""
        return level

    def network_target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """The velocity, ``clean - noise``."""
        return clean - noise

    def start(self, noise: Tensor) -> Tensor:
        """The noise itself."""
        return noise

    def levels(self) -> tuple[float, ...]:
        """Evenly spaced."""
        steps = self.config.steps
        return tuple(1 - step / steps for step in range(steps + 1))

    def evaluations(self) -> int:
        """One a step of Euler's, two of the others'."""
        return self.config.steps * (1 if self.config.integrator == "euler" else 2)

    def advance(self, x: Tensor, answers: Tensor, level: Tensor, following: Tensor) -> Tensor:
        """``x + (t' - t) v``."""
        return x + (level - following)[..., None] * answers

    def sample(self, network: Network, x: Tensor, noise: Noise) -> Tensor:
        """By the config's integrator."""
        return INTEGRATORS[self.config.integrator](lambda x, t: network(x, 1 - t), x, self.config.steps)


def euler(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """``x += h v(x, t)`` from t = 0 to 1: first order, one evaluation a step."""
    for step in range(steps):
        x = x + velocity(x, step / steps) / steps
    return x


def heun(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """The mean of the velocities at both ends of a step: second order, two evaluations."""
    for step in range(steps):
        first = velocity(x, step / steps)
        second = velocity(x + first / steps, (step + 1) / steps)
        x = x + (first + second) / (2 * steps)
    return x


def midpoint(velocity: Velocity, x: Tensor, steps: int) -> Tensor:
    """The velocity in the middle of a step: second order, two evaluations."""
    for step in range(steps):
        halfway = x + velocity(x, step / steps) / (2 * steps)
        x = x + velocity(halfway, (step + 0.5) / steps) / steps
    return x


INTEGRATORS = {"euler": euler, "heun": heun, "midpoint": midpoint}
