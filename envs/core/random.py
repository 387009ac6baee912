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

_MASK, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)
_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_ROUNDS = _WEYL[:, None] * np.arange(10, dtype=np.uint64)  # added to the key, round by round


def philox4x32(counter: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Philox4x32-10; 32-bit words are kept as uint64, which holds the product of two.

    With ``hi_j lo_j`` the two halves of ``M_j c_2j``, a round is::

        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0

    Args:
        counter: Words c0 to c3, shape ``(4, ...)``.
        key: Words k0 and k1, shape ``(2, ...)``, broadcast against the counter's.

    Returns:
        The four words, shape ``(4, ...)``.
    """
    even, odd = counter[0::2], counter[1::2]  # the pair that is multiplied, and the other
    multipliers = _MULTIPLIERS.reshape(-1, *[1] * (counter.ndim - 1))
    rounds = _ROUNDS.reshape(2, -1, *[1] * (counter.ndim - 1))
    for turn in ((key[:, None] + rounds) & _MASK).swapaxes(0, 1):
        product = even * multipliers
        even, odd = (product >> _HALF)[::-1] ^ odd ^ turn, (product & _MASK)[::-1]
    return np.stack([even[0], odd[0], even[1], odd[1]])


class WorldRandom:
    """Random numbers for N worlds.

    Args:
        seed: Any integer; its low 32 bits count.
        worlds: World numbers, shape ``(N,)``; they need not start at 0 nor be contiguous.
        episode: Episode numbers, shape ``(N,)`` int64; the owner counts them up.
    """

    def __init__(self, seed: int, worlds: Tensor, episode: Tensor) -> None:
        self.seed = seed & 0xFFFFFFFF
        self.worlds = worlds.to(torch.int64)
        self.episode = episode

    @classmethod
    def first_episodes(cls, seed: int, count: int) -> WorldRandom:
        """What a new batch of `count` worlds draws from in its first episodes."""
        return cls(seed, torch.arange(count), torch.zeros(count, dtype=torch.int64))

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
        counter, key = np.empty((4, len(self.worlds), blocks), np.uint64), np.empty((2, len(self.worlds), 1), np.uint64)
        counter[0], counter[1] = np.arange(blocks), step.numpy()[:, None] if isinstance(step, Tensor) else step
        counter[2], counter[3] = stream, self.episode.numpy()[:, None]
        key[0], key[1] = self.seed, self.worlds.numpy()[:, None]
        words = np.moveaxis(philox4x32(counter & _MASK, key & _MASK), 0, -1).astype(np.int64)
        return torch.from_numpy(words.reshape(len(self.worlds), 4 * blocks)[:, :count])
