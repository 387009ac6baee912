"""`fermo.envs.core.random.philox4x32` as one kernel, where 150 small operations would draw as much."""

# A kernel is written in Warp's language, which type checkers take for Python.
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

import torch
import warp as wp
from torch import Tensor

from fermo.envs.core.warp_graph import launching


def random_words(seed: int, stream: int, worlds: Tensor, episode: Tensor, step: Tensor, blocks: int) -> Tensor:
    """The words of counters (block, step, stream, episode) under keys (seed, world), four a block.

    Args:
        seed: Low 32 bits of the key.
        stream: Third word of the counter.
        worlds: World numbers, shape ``(N,)`` int64.
        episode: Episode numbers, ``(N,)`` int64.
        step: Which draw of the episode, ``(N,)`` int64.
        blocks: Counters a world.

    Returns:
        Uniform 32-bit words, shape ``(N, 4 * blocks)`` int64, equal to those on the host.
    """
    words = torch.empty(len(worlds), 4 * blocks, dtype=torch.int64, device=worlds.device)
    with launching(worlds.device):
        arrays = [wp.from_torch(each.contiguous()) for each in (worlds, episode, step)]
        wp.launch(_philox_kernel, dim=(len(worlds), blocks), outputs=[wp.from_torch(words)],
                  inputs=[wp.uint32(seed), wp.uint32(stream), *arrays])  # fmt: skip
    return words


@wp.func
def _low(word: wp.int64) -> wp.uint32:
    return wp.uint32(word & wp.int64(0xFFFFFFFF))


@wp.kernel(module="unique", enable_backward=False)
def _philox_kernel(
    seed: wp.uint32,
    stream: wp.uint32,
    worlds: wp.array[wp.int64],
    episode: wp.array[wp.int64],
    step: wp.array[wp.int64],
    words: wp.array2d[wp.int64],
):
    world, block = wp.tid()
    c0, c1, c2, c3 = wp.uint32(block), _low(step[world]), stream, _low(episode[world])
    k0, k1 = seed, _low(worlds[world])
    for _ in range(10):
        p0 = wp.uint64(c0) * wp.uint64(0xD2511F53)
        p1 = wp.uint64(c2) * wp.uint64(0xCD9E8D57)
        c0, c2 = wp.uint32(p1 >> wp.uint64(32)) ^ c1 ^ k0, wp.uint32(p0 >> wp.uint64(32)) ^ c3 ^ k1
        c1, c3 = wp.uint32(p1), wp.uint32(p0)
        k0 = k0 + wp.uint32(0x9E3779B9)
        k1 = k1 + wp.uint32(0xBB67AE85)
    words[world, 4 * block] = wp.int64(c0)
    words[world, 4 * block + 1] = wp.int64(c1)
    words[world, 4 * block + 2] = wp.int64(c2)
    words[world, 4 * block + 3] = wp.int64(c3)
