"""What stands between a policy and the simulated servos: the same safety limiter that the arm's driver has."""

from __future__ import annotations

from torch import Tensor

from fermo.assets.so101_plant import JOINT_HIGH, JOINT_LOW, JOINT_SPEED, RATE_HZ
from fermo.controllers.safety_limiter import SafetyLimiter, SafetyLimits
from fermo.envs.core.task import Simulation

LIMITS = SafetyLimits(low=JOINT_LOW, high=JOINT_HIGH, max_velocity=JOINT_SPEED, rate_hz=RATE_HZ)
"""The driver's limits, at the policy's rate instead of the servo loop's."""


class LimitedServos:
    """Goal angles made safe as on the arm: ranges of the model, and speed from the measured starting pose on."""

    def __init__(self) -> None:
        self._limiter = SafetyLimiter(LIMITS)

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """See `Sensor.reset`."""
        self._limiter.reset(mask, pose=self._measured(sim))

    def update(self, sim: Simulation) -> None:
        """See `Sensor.update`; commands are limited when they are given."""

    def limit(self, command: Tensor, sim: Simulation) -> Tensor:
        """The nearest allowed goal angles, both ``(N, 6)`` [rad]."""
        measured = self._measured(sim)
        safe, _ = self._limiter.limit(command.to(measured), measured)
        return safe

    @staticmethod
    def _measured(sim: Simulation) -> Tensor:
        return sim["qpos"][:, : len(JOINT_LOW)]
