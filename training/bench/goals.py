"""What benchmarks by goals have in common: who is told a goal, which goals, and how varied behaviour is."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import entr
from torch import Tensor


class GoalPolicy(Protocol):
    """A policy that is told what to bring about."""

    def set_goal(self, goal: Tensor) -> None:
        """What the N worlds shall come to, in SI units: whole observations of each.

        A policy looks at those of its signals that goals are made of in training.

        Args:
            goal: Shape ``(N, observation_size)``, or ``(N, F, observation_size)`` where a goal has F frames.
        """
        ...

    def reset(self, mask: Tensor | None = None) -> None:
        """Forget the worlds of `mask` ``(N,)`` bool; all when None."""
        ...

    def select_action(self, obs: Tensor) -> Tensor:
        """Observations ``(N, observation_size)`` to actions ``(N, command_size)``."""
        ...


def drawn(total: int, count: int, seed: int) -> Tensor:
    """The first `count` of a random order of `total` numbers, which begins anew where it ends, ``(count,)`` int64."""
    return torch.from_numpy(np.resize(np.random.default_rng(seed).permutation(total), count))


def behaviour_entropy(counts: ArrayLike) -> NDArray[np.float64]:
    """Entropy of the shares of `counts` ``(..., K)``, in units of log K; 0 where there is nothing to share."""
    each = shares(counts)
    return entr(each).sum(axis=-1) / np.log(max(each.shape[-1], 2))


def shares(counts: ArrayLike) -> NDArray[np.float64]:
    """`counts` ``(..., K)`` over their sums; zero where there is nothing to share."""
    n = np.asarray(counts, dtype=np.float64)
    return n / np.maximum(n.sum(axis=-1, keepdims=True), np.finfo(np.float64).tiny)
