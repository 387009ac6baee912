"""A white-box attack on what the policy observes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fermo.envs.perturbations.projected_ascent import projected_ascent
from fermo.envs.perturbations.scaled import ScaledPerturbation

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class GradientAttack(ScaledPerturbation):
    """Projected gradient ascent inside the box ``|delta_i| <= severity * scale_i``, on the policy's own gradient.

    Maximises the squared change of the action, ``||(pi(o + delta) - pi(o)) / action_scale||^2`` (Zhang et al., "Robust
    deep reinforcement learning against adversarial perturbations on state observations", NeurIPS 2020, the MAD attack),
    by sign steps from a uniformly random start, and keeps the best of all iterates. Worlds are attacked together, each
    with its own radius; a radius of zero leaves the observation bitwise as it was.

    Args:
        severity: Radius in units of the scale, one or per world ``(N,)``.
        policy_map: Observations ``(N, observation_size)`` to actions ``(N, command_size)``, differentiable, row by row.
        scale: Per channel ``(observation_size,)``, in SI units; a normaliser's makes the radius normalised.
        action_scale: Per command ``(command_size,)``, in SI units; ones when None.
    """

    name = "gradient_attack"

    def __init__(self, severity: float | Tensor, *, policy_map: Callable[[Tensor], Tensor], scale: Tensor | None = None,
                 action_scale: Tensor | None = None) -> None:  # fmt: skip
        super().__init__(severity, scale=scale)
        self.policy_map = policy_map
        self.action_scale = action_scale

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        radius = self.channel_amplitude(obs)
        start = env.random.uniform(self.name, obs.shape[1:], step=env.steps, low=-1.0, high=1.0, dtype=obs.dtype)
        with torch.inference_mode(False):  # a rollout may run in it, and its tensors can never carry a gradient
            true = obs.clone()
            honest = self.policy_map(true).detach()
        divisor = 1.0 if self.action_scale is None else self.action_scale.to(honest)

        def change(delta: Tensor) -> Tensor:
            return ((self.policy_map(true + delta) - honest) / divisor).square().sum(dim=1)

        delta = projected_ascent(change, radius, radius * start)
        return torch.where(radius > 0, obs + delta, obs)
