"""Actors that reinforcement learning leaves behind: a perceptron between the observations' and the commands' ranges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.actor_mlp.config import ActorMlpConfig
from fermo.policies.behavior_cloning import BehaviorCloningPolicy
from fermo.policies.normalizer import Normalizer
from fermo.signal import PlantSpec, Signal


class ClippedNormalizer(Normalizer):
    """A `Normalizer` whose result stays within ``limit`` standard deviations."""

    def __init__(self, signals: tuple[Signal, ...], limit: float) -> None:
        super().__init__(signals)
        self.limit = limit

    def forward(self, value: Tensor) -> Tensor:
        """SI units to normalised, shape ``(..., size)``."""
        return super().forward(value).clamp(-self.limit, self.limit)


class ActorMlpPolicy(BehaviorCloningPolicy):
    """``action = centre + half_range * squash(network(normalise(obs)))`` with the commands' centre and half range.

    Observations may be float64, as Gymnasium's tasks give them.
    """

    family: ClassVar[str] = "actor_mlp"
    config: ActorMlpConfig

    def __init__(self, spec: PlantSpec, config: ActorMlpConfig) -> None:
        super().__init__(spec, config)
        self.low, self.high = self.low.float(), self.high.float()  # a spec made by NumPy gives float64
        if not (self.low.isfinite() & self.high.isfinite()).all():
            names = ", ".join(signal.name for signal in spec.commands)
            raise FermoError(f"actor_mlp needs bounded commands, and {names} have none in some element")
        if config.observation_clip is not None:
            self.observation_normalizer = ClippedNormalizer(spec.observations, config.observation_clip)
        if config.action_base is None:
            self.action_normalizer.mean.copy_((self.low + self.high) / 2)
        self.action_normalizer.std.copy_((self.high - self.low) / 2)

    def _build_network(self, generator: torch.Generator) -> nn.Sequential:
        network = super()._build_network(generator)
        return network.append(nn.Tanh()) if self.config.squash == "tanh" else network

    def fit_normalization(self, observations: Tensor, actions: Tensor) -> None:
        """Fit the observations' statistics; the actions' are the commands' range."""
        self.observation_normalizer.fit(observations)

    def predict_action_chunk(self, obs: Tensor) -> Tensor:
        """The next action, shape ``(N, 1, command_size)``."""
        return super().predict_action_chunk(obs.to(self.low.dtype))

    def why_uncertified(self) -> str | None:
        """An action base that passes around a squash or clip, whose bends free it from what the network subtracts."""
        around = self.config.squash == "tanh" or self.config.observation_clip is not None
        if self.config.action_base is not None and around:
            return "its action base passes around the squash or the clip of the network, which no proof here covers"
        return None

    @torch.no_grad()
    def take_over(self, layers: Sequence[nn.Linear], mean: Tensor | None = None, std: Tensor | None = None) -> None:
        """Copy a learner's actor: its linear layers in order, and its observations' statistics unless it has none."""
        own = [layer for layer in self.network if isinstance(layer, nn.Linear)]
        for mine, theirs in zip(own, layers, strict=True):
            mine.weight.copy_(theirs.weight)
            mine.bias.copy_(theirs.bias)
        if mean is not None and std is not None:
            self.observation_normalizer.mean.copy_(mean)
            self.observation_normalizer.std.copy_(std)
