"""What a chunk of actions is sampled from."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Situation(NamedTuple):
    """N worlds at one moment, all that the sampled chunk is a function of; its shapes hang on N alone.

    Attributes:
        observations: Shape ``(N, T, observation_size)``, SI units, the latest last.
        observed: Which of them there are, ``(N, T)`` bool.
        actions: Those before now, ``(N, T - 1, command_size)``, SI units.
        goal: Scaled goal, ``(N, G, goal_size)``; None for a policy that knows none.
        prefix: Actions of the chunk, ``(N, H, command_size)``, SI units; those that are not decided mean nothing.
        decided: Which of them are decided, ``(H,)`` bool.
        episode: Which episode each world lives, ``(N,)``.
        step: Actions taken in it, ``(N,)``.
    """

    observations: Tensor
    observed: Tensor
    actions: Tensor
    goal: Tensor | None
    prefix: Tensor
    decided: Tensor
    episode: Tensor
    step: Tensor
