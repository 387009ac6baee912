"""Perturbations whose severity multiplies a scale per channel."""

from __future__ import annotations

import torch
from torch import Tensor

from fermo.envs.perturbations.base import Perturbation
from fermo.errors import FermoError


class ScaledPerturbation(Perturbation):
    """Severity times `scale`, channel by channel.

    With a policy's normaliser as the scale, the severity is in normalised units and the same for every channel; without
    one, each channel's scale is one of its own SI units.

    Args:
        severity: One number, or one per world ``(N,)``.
        scale: What a severity of one means per channel, shape ``(size,)``, in the channels' SI units.
    """

    unit = "1"
    nominal = 0.0
    low = 0.0
    high = 100.0

    def __init__(self, severity: float | Tensor, *, scale: Tensor | None = None) -> None:
        super().__init__(severity)
        self.scale = None if scale is None else torch.as_tensor(scale, dtype=torch.float64).detach().clone()

    def channel_amplitude(self, like: Tensor) -> Tensor:
        """Severity in the channels' own SI units, per world, the shape and type of `like` ``(N, size)``."""
        if self.scale is None:
            self.scale = torch.ones(like.shape[1], dtype=torch.float64)
        if self.scale.shape != like.shape[1:]:
            raise FermoError(f"{self.name} has a scale of shape {tuple(self.scale.shape)} for {like.shape[1]} channels")
        self.scale = self.scale.to(like.device)
        return (self.severity[:, None] * self.scale).to(like.dtype)
