"""What goes wrong between the policy and the motors: noise, delay, speed limits, another hand on the stick."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.delay_line import DelayPerturbation
from fermo.envs.perturbations.scaled import ScaledPerturbation
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class ActionNoise(ScaledPerturbation):
    """Gaussian noise, fresh at every step; the severity is its standard deviation in units of the channel's scale."""

    name = "action_noise"

    def action(self, env: VectorEnv, action: Tensor) -> Tensor:
        """See `Perturbation.action`."""
        noise = env.random.normal(self.name, action.shape[1:], step=env.steps, dtype=action.dtype)
        return action + self.channel_amplitude(action) * noise


class ActionDelay(DelayPerturbation):
    """Commands arrive this late; until the first one does, the actuators hold it already.

    A command is held for a control step, so a delay of a fraction of a step acts as the mean of the two commands that
    share the step.
    """

    name = "action_delay"

    def action(self, env: VectorEnv, action: Tensor) -> Tensor:
        """See `Perturbation.action`."""
        return self.late(env, action)


class ActionSaturation(Perturbation):
    """Commands change at most this fast, in command units per second; the first of an episode passes as it is."""

    name = "action_saturation"
    unit = "command/s"
    nominal = math.inf
    low = 0.0
    high = math.inf

    def attach(self, env: VectorEnv) -> None:
        """See `Perturbation.attach`."""
        super().attach(env)
        self._last: Tensor | None = None

    def action(self, env: VectorEnv, action: Tensor) -> Tensor:
        """See `Perturbation.action`."""
        last = action if self._last is None else self._last
        reach = (self.severity * env.task.control_dt).to(action.dtype)[:, None]
        limited = torch.minimum(torch.maximum(action, last - reach), last + reach)
        self._last = torch.where((env.steps == 0)[:, None], action, limited)
        return self._last


class AdversarialBlend(Perturbation):
    """``(1 - severity) action + severity adversary(obs)``, a second agent's share of every command.

    The noisy action robust MDP of Tessler et al., "Action robust reinforcement learning and applications in continuous
    control", ICML 2019.

    Args:
        severity: The adversary's share, one or per world ``(N,)``.
        adversary: Observations ``(N, observation_size)`` as delivered to this perturbation, to commands
            ``(N, command_size)`` in SI units.
    """

    name = "adversarial_blend"
    unit = "1"
    nominal = 0.0
    low = 0.0
    high = 1.0

    def __init__(self, severity: float | Tensor, *, adversary: Callable[[Tensor], Tensor]) -> None:
        super().__init__(severity)
        self.adversary = adversary

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        self._obs = obs
        return obs

    def action(self, env: VectorEnv, action: Tensor) -> Tensor:
        """See `Perturbation.action`."""
        with torch.no_grad():
            other = self.adversary(self._obs)
        if other.shape != action.shape:
            shapes = f"{tuple(other.shape)}, expected {tuple(action.shape)}"
            raise FermoError(f"{self.name}: the adversary gave shape {shapes}")
        return torch.lerp(action, other.to(action), self.severity.to(action.dtype)[:, None])
