"""What a network reads of an observation beside its elements: how things lie to each other, and to the goal.

A network can work all of it out, and a large one trained for long does. A small one is slow to: where two positions
differ by a hundredth of what they vary by, and the action hangs on it, the difference has to be read as such.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fermo.errors import FermoError, unknown_name
from fermo.policies.normalizer import Normalizer
from fermo.policies.windowed.config import GoalSourceConfig, RelationsConfig
from fermo.signal import PlantSpec


class Relations(nn.Module):
    """Scaled observations, with the relations of the config appended; without any, the observations alone.

    Args:
        config: Which.
        spec: Whose signals it names.
        goal: Which elements of a future goal count.

    Attributes:
        size: Elements of what `forward` answers.
        mean: Of the observations' scaling, shape ``(observation_size,)``.
        std: Likewise.

    Raises:
        FermoError: A signal does not exist, or two of different sizes are to be subtracted.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: RelationsConfig, spec: PlantSpec, goal: GoalSourceConfig) -> None:
        super().__init__()
        self.config, self.observation_size = config, spec.observation_size
        places = {name: list(range(part.start, part.stop)) for name, part in spec.observation_slices().items()}
        pairs = [_pair(names, places) for names in config.differences]
        self.minuends = [place for first, _ in pairs for place in first]
        self.subtrahends = [place for _, second in pairs for place in second]
        counted = (goal.signals or tuple(places)) if goal.kind == "future" and config.goal_offset else ()
        self.reached = [place for name in counted for place in _known(name, places)]
        self.angles = [place for name, _ in config.symmetries for place in _known(name, places)]
        self.folds = [float(fold) for name, fold in config.symmetries for _ in places[name]]
        lengths = len(self.minuends) + len(self.reached)
        self.size = self.observation_size + lengths * (1 + 2 * config.harmonics) + 2 * len(self.angles)
        if self.size > self.observation_size:
            self.register_buffer("mean", torch.zeros(spec.observation_size))
            self.register_buffer("std", torch.ones(spec.observation_size))

    def fit(self, normalizer: Normalizer) -> None:
        """Take the scaling of the observations."""
        if self.size > self.observation_size:
            self.mean.copy_(normalizer.mean)
            self.std.copy_(normalizer.std)

    def forward(self, observations: Tensor, goal: Tensor | None) -> Tensor:
        """Observations and relations, ``(B, T, size)``.

        Args:
            observations: Scaled, ``(B, T, observation_size)``.
            goal: Scaled, ``(B, G, .)``; None without goals. From a hidden one, all zeros, nothing is away.
        """
        if self.size == self.observation_size:
            return observations
        lengths = self._differences(observations)
        if self.reached and goal is not None:
            away = goal[:, -1:, self.reached] - observations[..., self.reached]
            told = (goal != 0).flatten(1).any(1)
            lengths = torch.cat([lengths, away * told[:, None, None]], dim=-1)
        waves = [wave(2.0**k * lengths) for k in range(self.config.harmonics) for wave in (torch.sin, torch.cos)]
        turns = (observations * self.std + self.mean)[..., self.angles] * lengths.new_tensor(self.folds)
        return torch.cat([observations, lengths, *waves, turns.sin(), turns.cos()], dim=-1)

    def as_observations(self, goal: Tensor) -> Tensor:
        """Goals that are observations, ``(B, G, size)``: they lie to nothing in any way."""
        return F.pad(goal, (0, self.size - self.observation_size))

    def _differences(self, observations: Tensor) -> Tensor:
        """In units of the two elements' mean deviation, ``(B, T, .)``."""
        first, second, std = self.minuends, self.subtrahends, self.std
        shift = self.mean[first] - self.mean[second]
        difference = observations[..., first] * std[first] - observations[..., second] * std[second] + shift
        return difference / ((std[first] + std[second]) / 2)


def _known(name: str, places: dict[str, list[int]]) -> list[int]:
    if name not in places:
        raise unknown_name("signal of a relation", name, places)
    return places[name]


def _pair(names: tuple[str, str], places: dict[str, list[int]]) -> tuple[list[int], list[int]]:
    first, second = (_known(name, places) for name in names)
    if len(first) != len(second):
        raise FermoError(f"{names[0]} has {len(first)} elements and {names[1]} has {len(second)}: only signals of one "
                         "size can be subtracted")  # fmt: skip
    return first, second
