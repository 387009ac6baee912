"""A white-box attack on what the policy observes that looks ahead through a model of the plant."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fermo.envs.perturbations.projected_ascent import projected_ascent
from fermo.envs.perturbations.scaled import ScaledPerturbation

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class DynamicsAttack(ScaledPerturbation):
    """Plans shifts of the next H observations by gradient through policy and plant, and applies the first.

    With ``x_0`` the true observation, which must be the plant's state, the plan maximises by projected ascent in the
    box ``|delta_t,i| <= severity * scale_i``::

        sum_{t=1..H} cost(x_t),   x_{t+1} = f(x_t, pi(x_t + delta_t))

    Args:
        severity: Radius in units of the scale, one or per world ``(N,)``.
        policy_map: Observations ``(N, observation_size)`` to actions ``(N, command_size)``, differentiable.
        step_map: f, observations and actions to the next observations ``(N, observation_size)``, differentiable.
        cost: Observations to what they cost the victim, ``(N,)``, differentiable.
        horizon: H [control steps].
        starts: How many random plans the ascent begins from; the best is kept.
        scale: Per channel ``(observation_size,)``, in SI units; a normaliser's makes the radius normalised.
    """

    name = "dynamics_attack"

    def __init__(self, severity: float | Tensor, *, policy_map: Callable[[Tensor], Tensor],
                 step_map: Callable[[Tensor, Tensor], Tensor], cost: Callable[[Tensor], Tensor], horizon: int = 12,
                 starts: int = 2, scale: Tensor | None = None) -> None:  # fmt: skip
        super().__init__(severity, scale=scale)
        self.policy_map, self.step_map, self.cost = policy_map, step_map, cost
        self.horizon, self.starts = horizon, starts

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        radius = self.channel_amplitude(obs)
        plans = (self.starts, self.horizon, *obs.shape[1:])
        draws = env.random.uniform(self.name, plans, step=env.steps, low=-1.0, high=1.0, dtype=obs.dtype)
        with torch.inference_mode(False):
            state = obs.clone()
        box = radius[:, None]
        found = [projected_ascent(lambda delta: self._cost_ahead(state, delta), box, box * draw)
                 for draw in draws.unbind(dim=1)]  # fmt: skip
        with torch.no_grad():
            best = torch.stack([self._cost_ahead(state, plan) for plan in found]).argmax(dim=0)
        first = torch.stack([plan[:, 0] for plan in found])[best, torch.arange(len(obs), device=obs.device)]
        return torch.where(radius > 0, obs + first, obs)

    def _cost_ahead(self, state: Tensor, delta: Tensor) -> Tensor:
        total = torch.zeros_like(state[:, 0])
        for shift in delta.unbind(dim=1):
            state = self.step_map(state, self.policy_map(state + shift))
            total = total + self.cost(state)
        return total
