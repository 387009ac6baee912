"""The perturbation contract: an object with a severity in physical units that a `VectorEnv` calls at fixed places."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class Perturbation:
    """Base of every perturbation; each hook does nothing unless a subclass says otherwise.

    Perturbations compose (a `VectorEnv` calls them in order), vectorise (`severity` may differ between worlds, so a whole
    grid is one rollout) and draw from the worlds' own random streams under their own name.

    Attributes:
        name: Registry name, for example ``"cube_mass"``.
        unit: Unit of the severity.
        nominal: The severity at which nothing is perturbed.
        low: Smallest severity accepted.
        high: Largest severity accepted.
        severity: One number, or one per world ``(N,)``.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    nominal: ClassVar[float]
    low: ClassVar[float]
    high: ClassVar[float]

    def __init__(self, severity: float | Tensor) -> None:
        self.severity = torch.as_tensor(severity, dtype=torch.float64)
        bad = ~((self.severity >= self.low) & (self.severity <= self.high))
        if bad.any():
            value = float(self.severity.flatten()[bad.flatten()][0])
            shown = "NaN" if math.isnan(value) else f"{value:g}"
            raise FermoError(f"{self.name} severity {shown} {self.unit} is outside [{self.low:g}, {self.high:g}] {self.unit}")

    def attach(self, env: VectorEnv) -> None:
        """Allocate per-world memory; called once, before the first reset. Subclasses call this first."""
        if self.severity.ndim and self.severity.shape != (env.num_envs,):
            raise FermoError(
                f"{self.name} has severities of shape {tuple(self.severity.shape)} for {env.num_envs} worlds; give one or ({env.num_envs},)"
            )
        self.severity = self.severity.to(env.device).expand(env.num_envs).clone()

    def reset(self, env: VectorEnv, mask: Tensor) -> None:
        """Begin episodes in the worlds of `mask` ``(N,)``, after their state was set and before it is propagated."""

    def action(self, env: VectorEnv, action: Tensor) -> Tensor:
        """What reaches the actuators instead of `action` ``(N, command_size)``."""
        return action

    def before_step(self, env: VectorEnv) -> None:
        """Write applied forces (``"xfrc_applied"``) or parameters for the coming control step."""

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """What reaches the policy instead of `obs` ``(N, observation_size)``."""
        return obs
