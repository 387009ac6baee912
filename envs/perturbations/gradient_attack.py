"""A white-box attack on what the policy observes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fermo.envs.perturbations.scaled import ScaledPerturbation

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv

STEPS = 10
"""Gradient steps per observation."""

STEP_FRACTION = 0.25
"""Length of a step over the radius, 2.5 / STEPS: enough to cross the box from any start (Madry et al., ICLR 2018)."""


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
        # A rollout may run in inference mode, whose tensors can never carry a gradient; copies made outside it can.
        with torch.inference_mode(False), torch.enable_grad():
            delta = self._ascend(obs.clone(), radius.clone(), radius.clone() * start.clone())
        return torch.where(radius > 0, obs + delta, obs)

    def _ascend(self, obs: Tensor, radius: Tensor, delta: Tensor) -> Tensor:
        with torch.no_grad():
            honest = self.policy_map(obs)
        divisor = 1.0 if self.action_scale is None else self.action_scale.to(honest)
        best, best_change = delta, torch.full_like(honest[:, 0], -torch.inf)
        for step in range(STEPS + 1):
            delta = delta.detach().requires_grad_(step < STEPS)
            change = ((self.policy_map(obs + delta) - honest) / divisor).square().sum(dim=1)
            better = change.detach() > best_change
            best = torch.where(better[:, None], delta.detach(), best)
            best_change = torch.where(better, change.detach(), best_change)
            if step < STEPS:
                (slope,) = torch.autograd.grad(change.sum(), delta)
                delta = (delta.detach() + STEP_FRACTION * radius * slope.sign()).clamp(-radius, radius)
        return best
