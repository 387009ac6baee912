"""Randomness of a training as a function of (seed, stream, counter), so that resuming repeats it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """What the randomness is for."""

    SHUFFLE = 0
    AUGMENT = 1
    SAMPLE = 2
    FORWARD = 3
    SPLIT = 4
    VALIDATE = 5


def stream_generator(seed: int, stream: Stream, counter: int, device: torch.device | str = "cpu",
                     rank: int = 0) -> torch.Generator:  # fmt: skip
    """An independent generator on a device, for one of several processes."""
    return torch.Generator(device).manual_seed(_key(seed, stream, counter, rank))


@contextmanager
def global_stream(seed: int, stream: Stream, counter: int, device: torch.device,
                  rank: int = 0) -> Iterator[None]:  # fmt: skip
    """Inside, torch's own random state, which dropout draws from, is that of the stream; afterwards as before."""
    on_cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if on_cuda else []):
        torch.default_generator.manual_seed(_key(seed, stream, counter, rank))
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(_key(seed, stream, counter, rank))
        yield


def _key(seed: int, stream: Stream, counter: int, rank: int) -> int:
    own = (rank,) if rank else ()
    sequence = np.random.SeedSequence([seed, stream, counter], spawn_key=own)
    return int(sequence.generate_state(1, np.uint64)[0])
