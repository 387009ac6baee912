"""Noise on the demonstrated observations while a policy learns from them."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fermo.errors import FermoError
from fermo.signal import PlantSpec


class ObservationNoise:
    """Gaussian noise on observations, as augmentation."""

    def __init__(self, spec: PlantSpec, std: Mapping[str, float]) -> None:
        """Standard deviation by observation signal, in its unit; none where absent."""
        slices = spec.observation_slices()
        unknown = sorted(set(std) - set(slices))
        if unknown:
            raise FermoError(f"no observation {unknown[0]!r} to add noise to: choose from {', '.join(slices)}")
        self.std = torch.zeros(spec.observation_size)
        for name, value in std.items():
            self.std[slices[name]] = value

    def __call__(self, obs: Tensor, generator: torch.Generator) -> Tensor:
        """Noisy copy of `obs`, shape ``(B, observation_size)``."""
        noise = torch.randn(obs.shape, generator=generator, device=obs.device, dtype=obs.dtype)
        return obs + noise * self.std.to(obs.device)
