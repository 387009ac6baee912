"""How smooth a policy's actions are: fluctuation, jitter and spectrum of recorded episodes.

All three are of actions divided channel by channel by a scale, best the standard deviation of the demonstrated ones,
which makes policies and tasks comparable, and of each episode's own steps alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


class ActionLog:
    """A policy map that keeps what it answered, for one rollout."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        self._act = act
        self._actions: list[Tensor] = []

    def __call__(self, obs: Tensor) -> Tensor:
        """The action, shape ``(N, command_size)``, of observations ``(N, observation_size)``."""
        action = self._act(obs)
        self._actions.append(action.detach().clone())
        return action

    @property
    def actions(self) -> Tensor:
        """All answers so far, SI units, shape ``(N, T, command_size)``."""
        return torch.stack(self._actions, dim=1)


@dataclass(frozen=True, kw_only=True)
class Smoothness:
    """Of N episodes, each shape ``(N,)`` float64; NaN where an episode is too short to tell.

    Attributes:
        fluctuation: ``mean_t ||a_{t+1} - a_t||``, in scales a step.
        jitter: ``mean_t ||a_{t+3} - 3 a_{t+2} + 3 a_{t+1} - a_t|| / dt^3``, in scales per s^3.
        spectrum: ``2 / (n f_s) sum_i M_i f_i``, in scales; see `spectrum`.
    """

    fluctuation: Tensor
    jitter: Tensor
    spectrum: Tensor


def smoothness(actions: Tensor, lengths: Tensor, *, scale: Tensor, dt: float) -> Smoothness:
    """Every measure.

    Args:
        actions: Shape ``(N, T, m)``, SI units.
        lengths: Steps of each episode, at most T, shape ``(N,)``; what comes later does not count.
        scale: What each channel is divided by, in its unit, shape ``(m,)``.
        dt: Time between actions [s].
    """
    scaled = actions.double() / scale.double()
    return Smoothness(
        fluctuation=mean_difference(scaled, lengths, order=1),
        jitter=mean_difference(scaled, lengths, order=3) / dt**3,
        spectrum=spectrum(scaled, lengths),
    )


def mean_difference(actions: Tensor, lengths: Tensor, *, order: int) -> Tensor:
    """Mean l2 norm of the differences of that order within each episode, shape ``(N,)``; NaN where it has none.

    Args:
        actions: Shape ``(N, T, m)``.
        lengths: Steps of each episode, shape ``(N,)``.
        order: 1 for neighbours, 3 for jitter.
    """
    sizes = torch.linalg.vector_norm(actions.diff(n=order, dim=1), dim=2)
    counts = lengths - order
    inside = torch.arange(sizes.shape[1], device=sizes.device) < counts[:, None]
    mean = torch.where(inside, sizes, 0.0).sum(dim=1) / counts.clamp_min(1)
    return torch.where(counts > 0, mean, math.nan)


def spectrum(actions: Tensor, lengths: Tensor) -> Tensor:
    r"""Amplitude-weighted mean frequency, averaged over the channels, shape ``(N,)``; NaN below three steps.

    ``Sm = 2 / (n f_s) sum_i M_i f_i`` over the n frequencies above zero and below half the sampling frequency f_s, with
    M_i the amplitude of component i, so that a sinusoid of amplitude A counts A (Mysore et al. 2021, *Regularizing
    Action Policies for Smooth Control with Reinforcement Learning*). An episode's length decides n: compare episodes
    of equal length.

    Args:
        actions: Shape ``(N, T, m)``.
        lengths: Steps of each episode, shape ``(N,)``.
    """
    result = torch.full(lengths.shape, math.nan, dtype=actions.dtype, device=actions.device)
    for length in lengths.unique().tolist():
        n = (length - 1) // 2
        if n < 1:
            continue
        chosen = lengths == length
        amplitudes = 2 / length * torch.fft.rfft(actions[chosen, :length], dim=1).abs()[:, 1 : n + 1]
        frequencies = torch.arange(1, n + 1, dtype=actions.dtype, device=actions.device) / length  # over f_s
        result[chosen] = 2 / n * torch.einsum("f,kfm->km", frequencies, amplitudes).mean(dim=1)
    return result
