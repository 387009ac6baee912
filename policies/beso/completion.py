"""How the actions being sampled and those already known make up the window that the network sees."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Completion(ABC):
    """Past actions, and the chunk to be sampled.

    Attributes:
        past: Scaled actions before now, ``(N, T - 1, action_size)``.
    """

    def __init__(self, past: Tensor) -> None:
        self.past = past

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
    """Only the chunk is sampled; what is known stays as it is, at level 0.

    Args:
        past: As of `Completion`.
        prefix: Scaled actions of the chunk, ``(N, H, action_size)``; those that are not decided mean nothing.
        decided: Which of them are decided, ``(H,)`` bool: the shapes stay the same however many they are.
    """

    def __init__(self, past: Tensor, prefix: Tensor, decided: Tensor) -> None:
        super().__init__(past)
        self.prefix, self.decided = prefix, decided

    def begin(self, chunk: Tensor) -> Tensor:
        """The noise."""
        return chunk

    def window(self, x: Tensor, level: float | Tensor) -> tuple[Tensor, Tensor]:
        """The known actions, then the noised ones."""
        levels = torch.where(self.decided, 0.0, x.new_zeros(x.shape[:2]) + level)
        known = x.new_zeros(self.past.shape[:2])
        return torch.cat([self.past, self.chunk(x)], dim=1), torch.cat([known, levels], dim=1)

    def own(self, answers: Tensor) -> Tensor:
        """Those for the chunk."""
        return answers[:, self.past.shape[1] :]

    def chunk(self, x: Tensor) -> Tensor:
        """With the decided actions in their places."""
        return torch.where(self.decided[:, None], self.prefix, x)


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
