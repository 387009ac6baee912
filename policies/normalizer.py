"""Affine per-channel normalisation, fitted from data and stored with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.signal import Signal

# Spread below which a channel of that unit counts as constant: dividing by less would turn sensor noise into signal.
UNIT_FLOORS = {"rad": 1e-2, "rad/s": 5e-2, "m": 1e-3, "m/s": 1e-2, "N": 1e-1, "N m": 1e-2, "1": 1e-2}
DEFAULT_FLOOR = 1e-3


def channel_floors(signals: tuple[Signal, ...]) -> Tensor:
    """Smallest standard deviation each channel may be divided by, shape ``(size,)``, in the channel's unit."""
    return torch.tensor([UNIT_FLOORS.get(signal.unit, DEFAULT_FLOOR) for signal in signals for _ in range(signal.size)])


class Normalizer(nn.Module):
    """``z = (x - mean) / std`` per channel; the identity until `fit`.

    Attributes:
        mean: Shape ``(size,)``, in the channels' units.
        std: Standard deviation, at least the channel's floor, shape ``(size,)``.
    """

    floor: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, signals: tuple[Signal, ...]) -> None:
        super().__init__()
        self.names = [signal.name for signal in signals for _ in range(signal.size)]
        self.register_buffer("floor", channel_floors(signals), persistent=False)
        self.register_buffer("mean", torch.zeros(len(self.names)))
        self.register_buffer("std", torch.ones(len(self.names)))

    @torch.no_grad()
    def fit(self, data: Tensor) -> None:
        """Take mean and standard deviation from `data`, shape ``(M, size)``.

        Raises:
            FermoError: The data are empty, of the wrong width, or hold NaN or infinity.
        """
        data = self.checked(data)
        self.mean.copy_(data.mean(0))
        self.std.copy_(torch.maximum(data.std(0, correction=0), self.floor.double().to(data.device)))

    def checked(self, data: Tensor) -> Tensor:
        """`data` in double precision. Raises `FermoError` as `fit` does."""
        if data.ndim != 2 or data.shape[1] != len(self.names):
            raise FermoError(f"normalisation needs data of shape (M, {len(self.names)}), got {tuple(data.shape)}")
        if data.shape[0] == 0:
            raise FermoError("normalisation needs at least one sample, got none: record demonstrations first")
        bad = ~torch.isfinite(data)
        if bad.any():
            row, channel = (int(index) for index in bad.nonzero()[0])
            raise FermoError(
                f"sample {row} of {self.names[channel]!r} is {float(data[row, channel])}: "
                "remove NaN and infinity from the data"
            )
        return data.double()

    def forward(self, value: Tensor) -> Tensor:
        """SI units to normalised, shape ``(..., size)``, in the statistics' precision."""
        return (value.to(self.mean.dtype) - self.mean) / self.std

    def inverse(self, normalized: Tensor) -> Tensor:
        """Normalised to SI units, shape ``(..., size)``."""
        return normalized * self.std + self.mean
