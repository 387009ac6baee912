"""Noise that depends on the world and not on its company: a pure function of (seed, world, episode, step, draw)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor

Noise = Callable[[Tensor], Tensor]
"""Standard normal numbers shaped like the argument, ``(N, ...)``; other ones at each call."""

_GOLDEN, _FIRST, _SECOND = (value - 2**64 for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def keyed_noise(seed: int, episode: Tensor, step: Tensor) -> Noise:
    """Draw after draw for N worlds, each in its episode and at its step, both ``(N,)``; made again, it repeats them."""
    draws = itertools.count()
    worlds = torch.arange(len(episode), device=episode.device)
    return lambda like: world_noise(like, seed, worlds, episode, step, next(draws))


def world_noise(like: Tensor, *key: Tensor | int) -> Tensor:
    """Standard normal numbers shaped like `like`, ``(N, ...)``, by SplitMix64 and the Box-Muller transform.

    Args:
        like: Gives shape, precision and device.
        key: Integers, one number or one a world ``(N,)``; other keys give independent noise.
    """
    worlds, count = len(like), like[:1].numel()
    state = torch.zeros(worlds, dtype=torch.int64, device=like.device)
    for part in key:
        state = _mix(state + _GOLDEN + part)
    pairs = (count + 1) // 2
    places = torch.arange(1, 2 * pairs + 1, device=like.device)
    bits = _mix(state[:, None] + _GOLDEN * places)
    u = (_shift(bits, 11).double() + 0.5) * 2.0**-53
    radius, angle = torch.sqrt(-2.0 * torch.log(u[:, :pairs])), 2.0 * math.pi * u[:, pairs:]
    normal = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]
    return normal.reshape(like.shape).to(like.dtype)


def _mix(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014); int64 wraps as its unsigned words do."""
    z = (z ^ _shift(z, 30)) * _FIRST
    z = (z ^ _shift(z, 27)) * _SECOND
    return z ^ _shift(z, 31)


def _shift(z: Tensor, bits: int) -> Tensor:
    """To the right, filling with zeros."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)
