"""What stands between a policy and the simulated servos: the safety limiter that the arm's driver has, and a filter."""

from __future__ import annotations

from typing import Protocol

import mujoco
from torch import Tensor

from fermo.assets.scenes.so101 import JOINT_NAMES, TOOL_SITE
from fermo.assets.so101_plant import JOINT_HIGH, JOINT_LOW, JOINT_SPEED, RATE_HZ
from fermo.controllers.arm_filter import ArmFilter
from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.controllers.kinematics import SerialChain
from fermo.controllers.projection import Projection
from fermo.controllers.safety_limiter import SafetyLimiter, SafetyLimits
from fermo.envs.core.task import Sensor, Simulation

LIMITS = SafetyLimits(low=JOINT_LOW, high=JOINT_HIGH, max_velocity=JOINT_SPEED, rate_hz=RATE_HZ)
"""The driver's limits, at the policy's rate instead of the servo loop's."""


class Servos(Sensor, Protocol):
    """Goal angles made safe."""

    def limit(self, command: Tensor, sim: Simulation) -> Tensor:
        """The nearest allowed goal angles, both ``(N, 6)`` [rad]."""
        ...


def make_servos(safety: ArmFilterConfig | None, model: mujoco.MjModel) -> Servos:
    """Servos behind the limiter alone, or behind a safety filter too."""
    return LimitedServos() if safety is None else FilteredServos(safety, model)


class LimitedServos:
    """Goal angles made safe as on the arm: ranges of the model, and speed from the measured starting pose on."""

    def __init__(self) -> None:
        self._limiter = SafetyLimiter(LIMITS)

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """See `Sensor.reset`."""
        self._limiter.reset(mask, pose=measured(sim))

    def update(self, sim: Simulation) -> None:
        """See `Sensor.update`; commands are limited when they are given."""

    def limit(self, command: Tensor, sim: Simulation) -> Tensor:
        """The nearest allowed goal angles, both ``(N, 6)`` [rad]."""
        safe, _ = self._limiter.limit(command.to(measured(sim)), measured(sim))
        return safe


class FilteredServos:
    """The safety filter in front of `LimitedServos`: joint limits, and half-spaces for the tool. CPU back end only.

    Attributes:
        filter: Counts what it did.
        latest: How the goals of the last step were found; None before the first.
    """

    def __init__(self, config: ArmFilterConfig, model: mujoco.MjModel) -> None:
        chain = SerialChain.from_model(model, TOOL_SITE)
        self.filter = ArmFilter(config, chain, names=JOINT_NAMES, low=JOINT_LOW, high=JOINT_HIGH, rate_hz=RATE_HZ)
        self.latest: Projection | None = None
        self._limited = LimitedServos()

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """See `Sensor.reset`."""
        self.filter.reset(mask, pose=measured(sim))
        self._limited.reset(mask, sim)

    def update(self, sim: Simulation) -> None:
        """See `Sensor.update`; commands are filtered when they are given."""

    def limit(self, command: Tensor, sim: Simulation) -> Tensor:
        """The nearest goal angles that are safe and allowed, both ``(N, 6)`` [rad]."""
        safe, self.latest = self.filter.filter(command.to(measured(sim)), measured(sim))
        return self._limited.limit(safe, sim)


def measured(sim: Simulation) -> Tensor:
    """Joint angles ``(N, 6)`` [rad]."""
    return sim["qpos"][:, : len(JOINT_LOW)]
