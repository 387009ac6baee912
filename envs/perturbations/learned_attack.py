"""An attack on what the policy observes by an adversary that has learned what hurts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fermo.envs.perturbations.scaled import ScaledPerturbation

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class LearnedAttack(ScaledPerturbation):
    """Shifts each observation inside the box ``|delta_i| <= severity * scale_i`` as a trained adversary wants.

    An adversary that was paid for what the policy loses looks ahead, where a gradient step only changes the action of
    the moment (Zhang et al., "Robust reinforcement learning on state observations with learned optimal adversary",
    ICLR 2021). `fermo.training.bench.adversary` trains one.

    Args:
        severity: Radius in units of the scale, one or per world ``(N,)``.
        adversary: True observations ``(N, observation_size)`` to shifts ``(N, observation_size)`` in units of the
            radius; they are clamped to [-1, 1].
        scale: Per channel ``(observation_size,)``, in SI units; a normaliser's makes the radius normalised.
    """

    name = "learned_attack"

    def __init__(self, severity: float | Tensor, *, adversary: Callable[[Tensor], Tensor],
                 scale: Tensor | None = None) -> None:  # fmt: skip
        super().__init__(severity, scale=scale)
        self.adversary = adversary

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        with torch.no_grad():
            shift = self.adversary(obs).clamp(-1.0, 1.0).to(obs)
        return obs + self.channel_amplitude(obs) * shift
