"""How the actions being sampled and those already known make up the window that the network sees."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Completion(ABC):
    """Past actions, and the chunk to be sampled.

    Args:
        past: Scaled actions before now, ``(N, T - 1, action_size)``.
        prefix: Scaled first actions of the chunk that are decided, ``(N, d, action_size)``, or None.
    """

    def __init__(self, past: Tensor, prefix: Tensor | None = None) -> None:
        self.past, self.prefix = past, past[:, :0] if prefix is None else prefix

    @abstractmethod
    def begin(self, chunk: Tensor) -> Tensor:
        """What is sampled, at its start, from a chunk of noise ``(N, H, action_size)``."""

    @abstractmethod
    def window(self, x: Tensor, level: float | Tensor) -> tuple[Tensor, Tensor]:
        """Noised actions ``(N, T + H - 1, action_size)`` and their levels ``(N, T + H - 1)``.

        Args:
            x: What is sampled.
            level: Of all of it, or of each action ``(H,)``.
        """

    @abstractmethod
    def own(self, answers: Tensor) -> Tensor:
        """Of the network's answers for the window, those for what is sampled."""

    @abstractmethod
    def chunk(self, x: Tensor) -> Tensor:
        """The chunk in what was sampled."""


class CleanPast(Completion):
    """Only the chunk is sampled; what is known stays as it is, at level 0."""

    def begin(self, chunk: Tensor) -> Tensor:
        """The noise."""
        return chunk

    def window(self, x: Tensor, level: float | Tensor) -> tuple[Tensor, Tensor]:
        """The known actions, then the noised ones."""
        levels = x.new_zeros(x.shape[:2]) + level
        levels[:, : self.prefix.shape[1]] = 0.0
        known = x.new_zeros(self.past.shape[:2])
        return torch.cat([self.past, self.chunk(x)], dim=1), torch.cat([known, levels], dim=1)

    def own(self, answers: Tensor) -> Tensor:
        """Those for the chunk."""
        return answers[:, self.past.shape[1] :]

    def chunk(self, x: Tensor) -> Tensor:
        """With the decided actions in their places."""
        return torch.cat([self.prefix, x[:, self.prefix.shape[1] :]], dim=1)


class DriftingPast(Completion):
    """The paper's: past actions, clean at first, are told to be as noisy as the chunk and denoised with it."""

    def begin(self, chunk: Tensor) -> Tensor:
        """Clean past and noise."""
        return torch.cat([self.past, chunk], dim=1)

    def window(self, x: Tensor, level: float | Tensor) -> tuple[Tensor, Tensor]:
        """All of what is sampled, at one level."""
        return x, x.new_zeros(x.shape[:2]) + level

    def own(self, answers: Tensor) -> Tensor:
        """All."""
        return answers

    def chunk(self, x: Tensor) -> Tensor:
        """The last actions; those before have moved and are dropped."""
        return x[:, self.past.shape[1] :]
