"""What the network learns and how actions come of it: one interface for diffusion and for flow matching.

All corrupt a scaled action with noise of a *level* that is 0 for a clean action: sigma in diffusion, the number of the
step in DDPM, 1 - t in flow matching. A level may differ from action to action.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor, nn

from fermo.policies.windowed.world_noise import Noise

Network = Callable[[Tensor, float], Tensor]
"""The conditioned network's answer for each of the noised actions ``(N, A, action_size)`` at a level."""


class Objective(nn.Module, ABC):
    """Corruption, regression target and sampling of scaled actions ``(..., action_size)`` at levels ``(...)``."""

    def fit(self, actions: Tensor) -> None:
        """Take what it needs of the scaled demonstrated actions, ``(M, action_size)``.

        Raises:
            FermoError: The levels of the config do not suit them.
        """

    @abstractmethod
    def draw_levels(self, shape: tuple[int, ...], device: Tensor) -> Tensor:
        """Levels as training sees them, on the device of a tensor, from torch's current random stream."""

    @abstractmethod
    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """A clean action with noise of a level."""

    @abstractmethod
    def network_input(self, noised: Tensor, level: Tensor) -> Tensor:
        """The noised action as the network reads it."""

    @abstractmethod
    def network_level(self, level: Tensor) -> Tensor:
        """The level as the network is told it."""

    @abstractmethod
    def network_target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """What the network should answer; meaningless where the level is 0."""

    @abstractmethod
    def start(self, noise: Tensor) -> Tensor:
        """Where sampling begins, from standard normal noise."""

    @abstractmethod
    def levels(self) -> tuple[float, ...]:
        """Those that sampling visits, falling, down to 0."""

    @abstractmethod
    def evaluations(self) -> int:
        """Of the network, in a sample."""

    @abstractmethod
    def advance(self, x: Tensor, answers: Tensor, level: Tensor, following: Tensor) -> Tensor:
        """One Euler step of each action from its level to its following one, given the network's answers."""

    @abstractmethod
    def sample(self, network: Network, x: Tensor, noise: Noise) -> Tensor:
        """From such a start to scaled actions, both ``(N, A, action_size)``."""


def pooled_std(actions: Tensor) -> float:
    """Standard deviation of scaled actions, ``(M, action_size)``: all channels together, each around its mean."""
    return float(actions.double().std(0, correction=0).square().mean().sqrt())
