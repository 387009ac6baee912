"""The released implementation's own ways (intuitive-robots/beso), each an object that `Defects` switches on.

Past actions that drift lie elsewhere (`completion.DriftingPast`), and so does the choice of goals that avoids the last
frame (`fermo.training.data.goals.truncated_goal_frames`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from fermo.policies.beso.config import Defects, DiffusionConfig, GoalConfig
from fermo.policies.beso.diffusion import Diffusion
from fermo.policies.beso.samplers import SAMPLERS, Sampler
from fermo.policies.beso.schedules import Schedule, vp_sigma
from fermo.policies.window import ColumnGoal, FutureGoal
from fermo.policies.windowed.goals import Goals
from fermo.policies.windowed.memory import Memory
from fermo.policies.windowed.scaling import MARGIN, ActionClip
from fermo.signal import PlantSpec

WIDTH_TEN_DROPPED = (2, 5, 6, 7, 8, 9)  # of Block-Push's observation all but the two blocks' positions


def cosine_beta(steps: int, sigma_min: float, sigma_max: float) -> tuple[float, ...]:
    """The *betas* of the cosine schedule, used as if they were sigmas; the ends are ignored."""
    angles = (np.linspace(0, 1, steps + 1) + 0.008) / 1.008 * np.pi / 2
    alphas = np.cos(angles) ** 2
    return (*np.clip(1 - alphas[1:] / alphas[:-1], 0, 0.999)[::-1].tolist(), 0.0)


def vp(steps: int, sigma_min: float, sigma_max: float) -> tuple[float, ...]:
    """The whole variance-preserving process from sigma = 152, wherever sampling starts; the ends are ignored."""
    return (*vp_sigma(np.linspace(1, 1e-3, steps)).tolist(), 0.0)


def ve(steps: int, sigma_min: float, sigma_max: float) -> tuple[float, ...]:
    """Geometric, but past sigma_min by a factor that two steps too many make."""
    exponents = np.linspace(0, steps + 1, steps) / max(1, steps - 1)
    return (*(sigma_max * (sigma_min / sigma_max) ** exponents).tolist(), 0.0)


RELEASED_SCHEDULES: dict[str, Schedule] = {"cosine_beta": cosine_beta, "vp": vp, "ve": ve}
RELEASED_SAMPLERS: dict[str, Sampler] = {"dpmpp_2m_sde": SAMPLERS["dpmpp_sde"]}  # what that name runs


class ReleasedDiffusion(Diffusion):
    """Diffusion with the released schedules, start and handling of churn, as far as they are switched on."""

    def __init__(self, config: DiffusionConfig, defects: Defects) -> None:
        self.defects = defects
        super().__init__(config)

    def _schedule(self) -> Schedule:
        released = RELEASED_SCHEDULES if self.defects.released_schedules else {}
        return released.get(self.config.schedule) or super()._schedule()

    def _sampler(self) -> Sampler:
        released = RELEASED_SAMPLERS if self.defects.released_schedules else {}
        return released.get(self.config.sampler) or super()._sampler()

    def start(self, noise: Tensor) -> Tensor:
        """``sigma_max noise``: without the data's own spread."""
        return self.config.sigma_max * noise if self.defects.narrow_start else super().start(noise)

    def _churn(self) -> dict[str, float]:
        return {} if self.defects.ignored_churn else super()._churn()


class ReleasedGoals(Goals):
    """Goals hidden by element, reduced by a rule on their width, and never the last frame, as far as switched on."""

    def __init__(self, config: GoalConfig, spec: PlantSpec, defects: Defects) -> None:
        self.defects = defects
        super().__init__(config, spec)

    def _counts(self, spec: PlantSpec) -> Tensor:
        """All signals, whatever the config asks for, but of ten elements these four."""
        if not self.defects.width_ten_goals:
            return super()._counts(spec)
        counts = torch.ones(self.size)
        if self.size == 10:
            counts[list(WIDTH_TEN_DROPPED)] = 0.0
        return counts

    def source(self) -> FutureGoal | ColumnGoal | None:
        """Never the last frame, and near it raw zeros."""
        found = super().source()
        return replace(found, truncated=self.defects.truncated_goals) if isinstance(found, FutureGoal) else found

    def hide(self, goal: Tensor) -> Tensor:
        """Each element for itself, so that hardly any goal is hidden whole."""
        if not self.defects.element_goal_mask:
            return super().hide(goal)
        return goal * (torch.rand_like(goal) >= self.config.dropout)


class ShrinkingClip(ActionClip):
    """1.1 times the bounds, which narrows a range that does not hold zero: [0.5, 1] becomes [0.55, 1.1]."""

    def widened(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Both ends times 1.1."""
        return MARGIN * low, MARGIN * high


class LeakingMemory(Memory):
    """What an episode leaves is the next one's past."""

    def begin(self, mask: Tensor) -> None:
        """Count the episode and keep everything."""
        self.episode = self.episode + mask


class SwappedAverage(nn.Module):
    """Averaged weights beside the last ones, copied in for each prediction and out again."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.copies = 0  # of the whole network, so far
        for index, parameter in enumerate(network.parameters()):
            self.register_buffer(f"average_{index}", parameter.detach().clone())

    @torch.no_grad()
    def take(self, average: list[Tensor]) -> None:
        """Keep the averaged weights, in the order of the network's parameters."""
        for mine, theirs in zip(self.buffers(), average, strict=True):
            mine.copy_(theirs)

    @contextmanager
    def within(self, network: nn.Module) -> Iterator[None]:
        """The network has its averaged weights inside the block."""
        last = [parameter.detach().clone() for parameter in network.parameters()]
        self._copy(network, list(self.buffers()))
        try:
            yield
        finally:
            self._copy(network, last)

    @torch.no_grad()
    def _copy(self, network: nn.Module, weights: list[Tensor]) -> None:
        self.copies += 1
        for parameter, weight in zip(network.parameters(), weights, strict=True):
            parameter.copy_(weight)
