"""What a batch is made of: single frames, or windows of episodes with goals from their future."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from fermo.errors import FermoError
from fermo.policies.window import FutureGoal, Window
from fermo.training.data.goals import check_goal_lengths, goal_frames


class Samples(ABC):
    """F frames, around each of which there is one sample.

    Attributes:
        frames: ``"observation"`` ``(F, .)``, ``"action"`` ``(F, .)`` or ``(F, H, .)`` and what else a frame has, on the
            device of the training.
    """

    def __init__(self, frames: dict[str, Tensor]) -> None:
        self.frames = frames

    def __len__(self) -> int:
        """F."""
        return len(self.frames["observation"])

    @abstractmethod
    def batch(self, chosen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The samples around the frames `chosen`, ``(B,)``, with chance from a generator on their device."""


class FrameSamples(Samples):
    """The frame alone."""

    def batch(self, chosen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Rows of the frames."""
        return {name: tensor[chosen] for name, tensor in self.frames.items()}


class WindowSamples(Samples):
    """What `Window` asks for, from the frame's own episode.

    What would lie outside the episode is filled with its first or last frame and marked in ``"observed"`` and
    ``"acted"``; no window is longer in the past than the longest episode.

    Args:
        frames: As of `Samples`; ``"goal"`` ``(F, size)`` where goals come from a column.
        episode_index: Which episode a frame belongs to, ``(F,)``, never decreasing.
        window: Its lengths and its goals.

    Raises:
        FermoError: An episode is too short for the goals.
    """

    def __init__(self, frames: dict[str, Tensor], episode_index: Tensor, window: Window) -> None:
        super().__init__(frames)
        device = frames["observation"].device
        lengths = torch.unique_consecutive(episode_index.cpu(), return_counts=True)[1]
        if isinstance(window.goal, FutureGoal):
            check_goal_lengths(lengths, window.goal)
        ends = lengths.cumsum(0)
        self.window = window
        self.first = (ends - lengths).repeat_interleave(lengths).to(device)
        self.last = (ends - 1).repeat_interleave(lengths).to(device)
        past = min(window.past, int(lengths.max()))
        self.offsets = torch.arange(1 - past, window.ahead, device=device)
        self.past = past

    def batch(self, chosen: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """The windows of the frames."""
        first, last = self.first[chosen, None], self.last[chosen, None]
        places = chosen[:, None] + self.offsets
        inside = (places >= first) & (places <= last)
        places = places.clamp(first, last)
        batch = {name: tensor[chosen] for name, tensor in self.frames.items() if name not in ("observation", "action")}
        batch |= {
            "observation": self.frames["observation"][places[:, : self.past]],
            "observed": inside[:, : self.past],
            "action": self.frames["action"][places],
            "acted": inside,
        }
        if self.window.goal is not None:
            batch["goal"] = self._goal(chosen, generator)
        return batch

    def _goal(self, chosen: Tensor, generator: torch.Generator) -> Tensor:
        """Shape ``(B, G, goal_size)``; zeros where there is none."""
        if not isinstance(self.window.goal, FutureGoal):
            return self.frames["goal"][chosen][:, None]
        u = torch.rand(len(chosen), generator=generator, device=chosen.device)
        places, there = goal_frames(self.window.goal, chosen, self.last[chosen], u)
        return self.frames["observation"][places] * there[:, None, None]


def make_samples(frames: dict[str, Tensor], window: Window | None, episode_index: Tensor | None) -> Samples:
    """Samples for a policy's `window`; without `episode_index` each frame is an episode.

    Raises:
        FermoError: The episodes do not fit the frames or the window.
    """
    if window is None:
        return FrameSamples(frames)
    count = len(frames["observation"])
    if episode_index is None:
        episode_index = torch.arange(count)
    if episode_index.shape != (count,) or (episode_index.diff() < 0).any():
        shape = tuple(episode_index.shape)
        raise FermoError(f"{count} frames need an episode number each, never decreasing; got shape {shape}")
    if not (window.goal is None or isinstance(window.goal, FutureGoal) or "goal" in frames):
        raise FermoError(f"the policy's goals come from the column {window.goal.name!r}, which was not given")
    return WindowSamples(frames, episode_index, window)
