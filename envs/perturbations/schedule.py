"""Severities that change: drawn for each episode, drifting, wandering, or steered by an adversary of limited speed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fermo.envs.perturbations.base import Perturbation
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class Schedule(Perturbation):
    """Moves the severity of another perturbation before every control step, always within its bounds.

    Every episode begins at the severity that perturbation was made with. Without a schedule a severity is static.

    Args:
        inner: What is scheduled; this object takes its place.
    """

    def __init__(self, inner: Perturbation) -> None:
        # The bounds are the inner one's, and so is the severity: it was checked there.
        self.inner = inner
        inner.scheduled = True
        self.name, self.unit, self.nominal = inner.name, inner.unit, inner.nominal  # type: ignore[misc]
        self.low, self.high = inner.low, inner.high  # type: ignore[misc]

    @property
    def severity(self) -> Tensor:  # type: ignore[override]
        """Present severity, ``(N,)`` once attached."""
        return self.inner.severity

    @abstractmethod
    def next_severity(self, env: VectorEnv) -> Tensor:
        """Severity for the coming control step, shape ``(N,)``; it is clipped to the bounds."""

    def attach(self, env: VectorEnv) -> None:
        """See `Perturbation.attach`."""
        self.inner.attach(env)
        self._start = self.inner.severity.clone()

    def reset(self, env: VectorEnv, mask: Tensor) -> None:
        """See `Perturbation.reset`."""
        self.inner.severity = torch.where(mask, self._start, self.inner.severity)
        self.inner.reset(env, mask)

    def action(self, env: VectorEnv, action: Tensor) -> Tensor:
        """See `Perturbation.action`; the first hook of a step, so the severity moves here."""
        self.inner.severity = self.next_severity(env).clamp(self.low, self.high)
        self.inner.retune(env)
        return self.inner.action(env, action)

    def before_step(self, env: VectorEnv) -> None:
        """See `Perturbation.before_step`."""
        self.inner.before_step(env)

    def observation(self, env: VectorEnv, obs: Tensor) -> Tensor:
        """See `Perturbation.observation`."""
        return self.inner.observation(env, obs)


class EpisodeDraw(Schedule):
    """The severity is drawn for each episode, uniformly: domain randomisation.

    Args:
        kind: What is drawn.
        low: Smallest severity, in its unit.
        high: Largest.
    """

    def __init__(self, kind: Callable[[float], Perturbation], *, low: float, high: float) -> None:
        if low > high:
            raise FermoError(f"severities are drawn from low to high, got {low:g} to {high:g}")
        kind(high)  # told now when it is outside the bounds
        super().__init__(kind(low))
        self.between = (low, high)

    def reset(self, env: VectorEnv, mask: Tensor) -> None:
        """See `Perturbation.reset`."""
        low, high = self.between
        drawn = env.random.uniform(f"{self.name} severity", low=low, high=high)
        self.inner.severity = torch.where(mask, drawn, self.severity)
        self.inner.reset(env, mask)

    def next_severity(self, env: VectorEnv) -> Tensor:
        """See `Schedule.next_severity`."""
        return self.severity


class LinearDrift(Schedule):
    """The severity grows or shrinks steadily, as a motor that warms up.

    Args:
        inner: What drifts.
        rate: Change per second, in the severity's unit.
    """

    def __init__(self, inner: Perturbation, *, rate: float) -> None:
        super().__init__(inner)
        self.rate = rate

    def next_severity(self, env: VectorEnv) -> Tensor:
        """See `Schedule.next_severity`."""
        return self._start + self.rate * env.task.control_dt * env.steps


class RandomWalk(Schedule):
    """The severity wanders, each world on its own path.

    Args:
        inner: What wanders.
        rate: Standard deviation reached after one second, in the severity's unit; it grows with the root of time.
    """

    def __init__(self, inner: Perturbation, *, rate: float) -> None:
        super().__init__(inner)
        self.rate = rate

    def next_severity(self, env: VectorEnv) -> Tensor:
        """See `Schedule.next_severity`."""
        step = env.random.normal(f"{self.name} walk", step=env.steps)
        return self.severity + self.rate * env.task.control_dt**0.5 * step


class RateLimitedAdversary(Schedule):
    """An adversary steers the severity, but only so fast.

    Args:
        inner: What is steered.
        target: The severity the adversary wants, ``(N,)``, given the environment.
        rate: Largest change per second, in the severity's unit.
    """

    def __init__(self, inner: Perturbation, *, target: Callable[[VectorEnv], Tensor], rate: float) -> None:
        super().__init__(inner)
        self.target, self.rate = target, rate

    def next_severity(self, env: VectorEnv) -> Tensor:
        """See `Schedule.next_severity`."""
        reach = self.rate * env.task.control_dt
        wanted = self.target(env).to(self.severity)
        return self.severity + (wanted - self.severity).clamp(-reach, reach)
