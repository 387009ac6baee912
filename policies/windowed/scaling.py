"""Other scalings than to mean 0 and deviation 1, and the bounds that sampled actions are kept in."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fermo.policies.normalizer import Normalizer
from fermo.signal import PlantSpec, Signal

MARGIN = 1.1  # half the width of the clipping bounds, over half the width of the data


class MinMaxNormalizer(Normalizer):
    """The data's range becomes [-1, 1]; ``mean`` is its centre and ``std`` half its width."""

    @torch.no_grad()
    def fit(self, data: Tensor) -> None:
        """Take the range; arguments and errors as of `Normalizer.fit`."""
        data = self.checked(data)
        low, high = data.amin(0), data.amax(0)
        self.mean.copy_((low + high) / 2)
        self.std.copy_(torch.maximum((high - low) / 2, self.floor.double().to(data.device)))


class Unscaled(Normalizer):
    """The identity."""

    def fit(self, data: Tensor) -> None:
        """Only check; errors as of `Normalizer.fit`."""
        self.checked(data)


NORMALIZERS = {"standard": Normalizer, "min_max": MinMaxNormalizer, "none": Unscaled}


def make_normalizer(scaling: str, signals: tuple[Signal, ...]) -> Normalizer:
    """The normaliser of a scaling's name."""
    return NORMALIZERS[scaling](signals)


class ActionClip(nn.Module):
    """Keeps actions a little around the demonstrated ones and within the commands' bounds.

    Attributes:
        low: Shape ``(command_size,)``, SI units.
        high: Likewise.
    """

    low: Tensor
    high: Tensor
    lowest: Tensor
    highest: Tensor

    def __init__(self, spec: PlantSpec) -> None:
        super().__init__()
        low, high = (torch.tensor([value for signal in spec.commands for value in getattr(signal, side)]).float()
                     for side in ("low", "high"))  # fmt: skip
        self.register_buffer("lowest", low, persistent=False)
        self.register_buffer("highest", high, persistent=False)
        self.register_buffer("low", low.nan_to_num())  # a checkpoint holds finite numbers only
        self.register_buffer("high", high.nan_to_num())

    @torch.no_grad()
    def fit(self, actions: Tensor) -> None:
        """Take the data's bounds from actions, ``(M, command_size)``."""
        low, high = self.widened(actions.amin(0), actions.amax(0))
        self.low.copy_(low)
        self.high.copy_(high)

    def widened(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The bounds moved outwards by a tenth of half their distance."""
        centre, half = (low + high) / 2, (high - low) / 2
        return centre - MARGIN * half, centre + MARGIN * half

    def forward(self, action: Tensor) -> Tensor:
        """The nearest allowed action, ``(..., command_size)``."""
        return action.clamp(self.low, self.high).clamp(self.lowest, self.highest)
