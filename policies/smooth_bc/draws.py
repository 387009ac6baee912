"""Random numbers for a loss, the same in a resumed training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn


class Draws(nn.Module):
    """One generator after another, each a function of the seed and of how many came before.

    The count is a buffer, so a training's saved state holds it; no global random state is read or moved.

    Attributes:
        taken: Generators given out so far, a scalar int64.
    """

    taken: Tensor

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def forward(self) -> torch.Generator:
        """The next one, on the CPU."""
        key = np.random.SeedSequence([self.seed, int(self.taken)]).generate_state(1, np.uint64)[0]
        self.taken += 1
        return torch.Generator().manual_seed(int(key))
