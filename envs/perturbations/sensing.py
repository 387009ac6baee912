"""What goes wrong between the world and the policy: noise, bias, delay, dropped samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.delay_line import DelayPerturbation
from fermo.envs.perturbations.scaled import ScaledPerturbation

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class ObservationNoise(ScaledPerturbation):
    """Gaussian noise, fresh at every step; the severity is its standard deviation in units of the channel's scale."""

    name = "observation_noise"

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        noise = env.random.normal(self.name, obs.shape[1:], step=env.steps, dtype=obs.dtype)
        return obs + self.channel_amplitude(obs) * noise


class ObservationSignNoise(ScaledPerturbation):
    """Plus or minus the severity in every channel, by a fair coin: random noise of an attack's L-inf norm."""

    name = "observation_sign_noise"

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        return obs + self.channel_amplitude(obs) * _random_signs(env, self.name, obs, env.steps)


class ObservationBias(ScaledPerturbation):
    """A constant offset of plus or minus the severity in every channel, drawn once per episode."""

    name = "observation_bias"

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        return obs + self.channel_amplitude(obs) * _random_signs(env, self.name, obs, 0)


def _random_signs(env: VectorEnv, use: str, like: Tensor, step: Tensor | int) -> Tensor:
    return torch.where(env.random.uniform(use, like.shape[1:], step=step) < 0.5, -1.0, 1.0).to(like.dtype)


class ObservationDelay(DelayPerturbation):
    """The policy sees the world as it was this long ago; delays between control steps are interpolated linearly."""

    name = "observation_delay"

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        return self.late(env, obs)


class ObservationDropout(Perturbation):
    """Each sample is lost with this probability, and the policy sees the last one that was not."""

    name = "observation_dropout"
    unit = "1"
    nominal = 0.0
    low = 0.0
    high = 1.0

    def attach(self, env: VectorEnv) -> None:
        """See `Perturbation.attach`."""
        super().attach(env)
        self._held: Tensor | None = None

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        lost = (env.random.uniform(self.name, step=env.steps) < self.severity) & (env.steps > 0)
        self._held = obs if self._held is None else torch.where(lost[:, None], self._held, obs)
        return self._held
