"""A shift of the measurement along the policy's steepest direction, to a beat: what drives a loop the furthest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fermo.envs.perturbations.scaled import ScaledPerturbation
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv

BEAT = (1.0,) * 12 + (-1.0,) * 12
"""Signs of a shift that turns round every 12 control steps."""


class GradientShift(ScaledPerturbation):
    """The measurement is wrong by the severity, in l2 and the scale's units, where the action changes most.

    ``o + severity * s_t * scale * v``, with v the unit vector that the policy's Jacobian in those units stretches most,
    turned so that the action's elements grow in sum, and s_t the signs of a beat: unlike a greedy attack, whose every
    step starts anew, it can push at a loop's own rhythm.

    Args:
        severity: l2 length in units of the scale, one or per world ``(N,)``.
        policy_map: Observations ``(N, observation_size)`` to actions ``(N, command_size)``, differentiable, row by row.
        scale: Per channel ``(observation_size,)``, in SI units; a normaliser's makes the length normalised.
        signs: s_t in [-1, 1], one sequence ``(T,)`` or one per world ``(N, T)``, begun anew after T steps; turns
            round every 12 when None.
    """

    name = "gradient_shift"

    def __init__(self, severity: float | Tensor, *, policy_map: Callable[[Tensor], Tensor], scale: Tensor | None = None,
                 signs: Tensor | None = None) -> None:  # fmt: skip
        super().__init__(severity, scale=scale)
        self.policy_map = policy_map
        self.signs = torch.as_tensor(BEAT if signs is None else signs, dtype=torch.float64)
        if self.signs.ndim not in (1, 2) or not self.signs.numel() or not (self.signs.abs() <= 1).all():
            raise FermoError(f"{self.name} needs signs in [-1, 1], (T,) or (N, T), got shape {tuple(self.signs.shape)}")

    def attach(self, env: VectorEnv) -> None:
        """See `Perturbation.attach`."""
        super().attach(env)
        if self.signs.ndim == 2 and len(self.signs) != env.num_envs:
            raise FermoError(f"{self.name} has signs for {len(self.signs)} worlds, there are {env.num_envs} worlds")
        self.signs = self.signs.to(env.device).expand(env.num_envs, -1)

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        length = self.channel_amplitude(obs)
        now = self.signs.gather(1, env.steps[:, None] % self.signs.shape[1]).to(obs.dtype)
        assert self.scale is not None
        slopes = self._slopes(obs) * self.scale.to(obs.dtype)
        direction = torch.linalg.svd(slopes, full_matrices=False).Vh[:, 0]
        rise = (slopes @ direction[:, :, None]).sum(dim=(1, 2))
        turned = torch.where(rise < 0, -1.0, 1.0).to(obs.dtype)[:, None] * direction
        return torch.where(length > 0, obs + now * length * turned, obs)

    def _slopes(self, obs: Tensor) -> Tensor:
        """The policy's Jacobian in every world, ``(N, command_size, observation_size)``."""
        # A rollout may run in inference mode, whose tensors can never carry a gradient; copies made outside it can.
        with torch.inference_mode(False), torch.enable_grad():
            seen = obs.clone().requires_grad_(True)
            action = self.policy_map(seen)
            rows = [torch.autograd.grad(part.sum(), seen, retain_graph=True)[0] for part in action.unbind(dim=1)]
        return torch.stack(rows, dim=1)
