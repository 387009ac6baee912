"""A delay of any length per world, for observations and for actions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fermo.envs.perturbations.base import Perturbation

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class DelayLine:
    """The last samples of N worlds, in a ring indexed by the step of the episode.

    A delay is realised between samples by linear interpolation: exact at whole control steps, and for a command held
    between samples (zero-order hold) equal to its mean over the coming step. What lies before the episode is its first
    sample. Asking twice in one step is harmless.

    Args:
        longest: Longest delay to be asked for [control steps].
    """

    def __init__(self, longest: float) -> None:
        self._depth = int(longest) + 2
        self._ring: Tensor | None = None

    def delayed(self, sample: Tensor, steps: Tensor, delay: Tensor) -> Tensor:
        """Store `sample` as that of the present step and return the one `delay` earlier.

        Args:
            sample: Shape ``(N, size)``.
            steps: Control steps since the episode began, shape ``(N,)`` int64; at 0 the world's memory starts anew.
            delay: Shape ``(N,)`` [control steps], at least 0.
        """
        if self._ring is None:
            self._ring = sample.new_zeros(len(sample), self._depth, sample.shape[1])
        fresh = (steps == 0)[:, None, None]
        self._ring = torch.where(fresh, sample[:, None], self._ring)
        worlds = torch.arange(len(sample), device=sample.device)
        self._ring[worlds, steps % self._depth] = sample
        # A multiple of the control period divides to something a rounding error off a whole number.
        delay = torch.minimum(delay, steps)
        whole = torch.floor(delay + 1e-9).to(torch.int64)
        fraction = (delay - whole).clamp(min=0.0).to(sample.dtype)[:, None]
        newer = self._ring[worlds, (steps - whole) % self._depth]
        older = self._ring[worlds, (steps - whole - 1).clamp(min=0) % self._depth]
        return torch.lerp(newer, older, fraction)


class DelayPerturbation(Perturbation):
    """Base of what arrives late; the severity is the delay."""

    unit = "s"
    nominal = 0.0
    low = 0.0
    high = 1.0

    def attach(self, env: VectorEnv) -> None:
        """See `Perturbation.attach`."""
        super().attach(env)
        self._line = DelayLine(math.ceil(self.high / env.task.control_dt))

    def late(self, env: VectorEnv, sample: Tensor) -> Tensor:
        """What was `sample` ``(N, size)`` a severity ago."""
        return self._line.delayed(sample, env.steps, self.severity / env.task.control_dt)
