"""Counter-based randomness: a number is a pure function of (seed, world, episode, use, step, index).

Nothing is stored between draws, so world i's episode is the same whatever the batch size, the order of the calls or the
back end. The generator is Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011), whose
128-bit counter holds (block of indices, step, use, episode) and whose 64-bit key holds (seed, world).
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from fermo.envs.core import host

_MASK = 0xFFFFFFFF
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10


def philox4x32(counter: tuple[np.ndarray, ...], key: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Four 32-bit words (as int64) for a 128-bit counter and a 64-bit key, given as words that broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        # An int64 product wraps modulo 2^64, and its bits are those of the unsigned product.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        hi0, lo0 = (p0 >> 32) & _MASK, p0 & _MASK
        hi1, lo1 = (p1 >> 32) & _MASK, p1 & _MASK
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


class WorldRandom:
    """Random numbers for N worlds.

    Args:
        seed: Any integer; its low 32 bits count.
        worlds: World numbers, shape ``(N,)``; they need not start at 0 nor be contiguous.
        episode: Episode numbers, shape ``(N,)`` int64; the owner counts them up.
    """

    def __init__(self, seed: int, worlds: Tensor, episode: Tensor) -> None:
        self.seed = seed & _MASK
        self.worlds = worlds.to(torch.int64)
        self.episode = episode

    def uniform(self, use: str, shape: tuple[int, ...] = (), *, step: int | Tensor = 0, low: float = 0.0,
                high: float = 1.0, dtype: torch.dtype = torch.float64) -> Tensor:  # fmt: skip
        """Uniform in [low, high), shape ``(N, *shape)``.

        Args:
            use: What the numbers are for; another use gives an independent stream.
            shape: Shape per world.
            step: Which draw of the episode, one number or one per world ``(N,)``.
            low: Lower end.
            high: Upper end.
            dtype: Floating type of the result.
        """
        words = self._words(use, math.prod(shape), step)
        unit = (words.to(torch.float64) + 0.5) * 2.0**-32
        return (low + (high - low) * unit).reshape(len(self.worlds), *shape).to(dtype)

    def normal(self, use: str, shape: tuple[int, ...] = (), *, step: int | Tensor = 0,
               dtype: torch.dtype = torch.float64) -> Tensor:  # fmt: skip
        """Standard normal, shape ``(N, *shape)``, by the Box-Muller transform; arguments as for `uniform`."""
        count = math.prod(shape)
        pairs = (count + 1) // 2
        u = (self._words(use, 2 * pairs, step).to(torch.float64) + 0.5) * 2.0**-32
        radius, angle = torch.sqrt(-2.0 * torch.log(u[:, :pairs])), 2.0 * math.pi * u[:, pairs:]
        z = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]
        return z.reshape(len(self.worlds), *shape).to(dtype)

    def of(self, mask: Tensor) -> WorldRandom:
        """The numbers of the worlds of `mask` ``(N,)`` bool alone."""
        return WorldRandom(self.seed, self.worlds[mask], self.episode[mask])

    def _words(self, use: str, count: int, step: int | Tensor) -> Tensor:
        """Uniform 32-bit words, shape ``(N, count)`` int64."""
        stream, blocks = zlib.crc32(use.encode()), (count + 3) // 4
        if not host.on_host(self.worlds):
            from fermo.envs.core.warp_random import random_words

            steps = step.to(torch.int64) if isinstance(step, Tensor) else torch.full_like(self.worlds, step)
            return random_words(self.seed, stream, self.worlds, self.episode, steps, blocks)[:, :count]
        worlds, episode = self.worlds.numpy()[:, None] & _MASK, self.episode.numpy()[:, None] & _MASK
        steps = step.numpy()[:, None] if isinstance(step, Tensor) else np.array([step])
        counter = (np.arange(blocks), steps.astype(np.int64) & _MASK, np.array([stream]), episode)
        words = np.broadcast_arrays(*philox4x32(counter, (np.array([self.seed]), worlds)))
        return torch.from_numpy(np.stack(words, axis=-1).reshape(len(worlds), -1)[:, :count])
