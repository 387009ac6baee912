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

    Perturbations compose (a `VectorEnv` calls them in order), vectorise (`severity` may differ between worlds, so a
    whole grid is one rollout) and draw from the worlds' own random streams under their own name.

    Attributes:
        name: Registry name, for example ``"cube_mass"``.
        unit: Unit of the severity.
        nominal: The severity at which nothing is perturbed.
        low: Smallest severity accepted.
        high: Largest severity accepted.
        severity: One number, or one per world ``(N,)``.
        scheduled: Whether a `Schedule` moves the severity within the episode.
    """

    name: ClassVar[str]
    unit: ClassVar[str]
    nominal: ClassVar[float]
    low: ClassVar[float]
    high: ClassVar[float]
    scheduled: bool = False

    def __init__(self, severity: float | Tensor) -> None:
        self.severity = _as_written(severity)
        bad = ~((self.severity >= self.low) & (self.severity <= self.high))
        if bad.any():
            value = float(self.severity.flatten()[bad.flatten()][0])
            shown = "NaN" if math.isnan(value) else f"{value:g}"
            bounds = f"[{self.low:g}, {self.high:g}] {self.unit}"
            raise FermoError(f"{self.name} severity {shown} {self.unit} is outside {bounds}")

    def attach(self, env: VectorEnv) -> None:
        """Allocate per-world memory; called once, before the first reset. Subclasses call this first."""
        if self.severity.ndim and self.severity.shape != (env.num_envs,):
            raise FermoError(
                f"{self.name} has severities of shape {tuple(self.severity.shape)} for {env.num_envs} worlds; "
                f"give one, or one per world"
            )
        self.severity = self.severity.to(env.device).expand(env.num_envs).clone()

    def reset(self, env: VectorEnv, mask: Tensor) -> None:
        """Begin episodes in the worlds of `mask` ``(N,)``, after their state was set and before it is propagated."""

    def retune(self, env: VectorEnv) -> None:
        """Take up a `severity` that a schedule changed within the episode; most kinds read it at every step anyway."""

    def action(self, env: VectorEnv, action: Tensor) -> Tensor:
        """What reaches the actuators instead of `action` ``(N, command_size)``."""
        return action

    def before_step(self, env: VectorEnv) -> None:
        """Write applied forces (``"xfrc_applied"``) or parameters for the coming control step."""

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """What reaches the policy instead of `obs` ``(N, observation_size)``.

        May be called again at the same ``env.steps`` (when other worlds reset) and must then give the same answer.
        """
        return obs


def _as_written(severity: float | Tensor) -> Tensor:
    """Severities as float64; a single precision 0.02 means 0.02, not 0.0199999996, or nominal would not be nominal."""
    if isinstance(severity, Tensor) and severity.dtype == torch.float32:
        return torch.from_numpy(severity.detach().cpu().numpy().astype(str).astype("float64"))
    return torch.as_tensor(severity, dtype=torch.float64)
