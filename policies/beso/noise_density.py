"""Which noise levels training sees, and how often: densities of sigma as objects that can be drawn from.

Each is written as its quantile function, so that a draw is ``quantile(u)`` with u uniform in (0, 1). Those of Karras et
al. 2022 and Crowson's collection, which BESO (Reuss et al. 2023) offers.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from fermo.errors import FermoError


class NoiseDensity(ABC):
    """A density of noise levels sigma > 0."""

    @abstractmethod
    def quantile(self, u: Tensor) -> Tensor:
        """The sigma below which a share `u` of the draws lies; any shape, float64."""

    def sample(self, shape: tuple[int, ...], generator: torch.Generator | None = None,
               device: torch.device | str = "cpu") -> Tensor:  # fmt: skip
        """Draws, float32, of the given shape.

        Args:
            shape: Of the result.
            generator: Where the randomness comes from; torch's current stream when None.
            device: Of the result and of the generator.
        """
        u = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
        return self.quantile(u.clamp_(1e-12, 1 - 1e-12)).float()  # 0 and 1 are where unbounded densities have none


@dataclass(frozen=True, kw_only=True)
class _Between(NoiseDensity, ABC):
    """A density on [sigma_min, sigma_max].

    Attributes:
        sigma_min: Smallest level.
        sigma_max: Largest level.
    """

    sigma_min: float
    sigma_max: float

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise FermoError(f"noise levels need 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}")


@dataclass(frozen=True, kw_only=True)
class LogNormal(NoiseDensity):
    """``ln sigma ~ N(mean, std^2)``, the choice of Karras et al. 2022.

    Attributes:
        mean: Of ln sigma.
        std: Of ln sigma.
    """

    mean: float
    std: float

    def quantile(self, u: Tensor) -> Tensor:
        """``exp(mean + std Phi^-1(u))``."""
        return torch.exp(self.mean + self.std * torch.special.ndtri(u))


@dataclass(frozen=True, kw_only=True)
class TruncatedLogLogistic(_Between):
    """ln sigma logistic around `location`, cut off at the ends; the choice of every BESO released.

    Attributes:
        location: Of ln sigma, its median without the cut.
        scale: Of ln sigma.
    """

    location: float
    scale: float

    def quantile(self, u: Tensor) -> Tensor:
        """``exp(location + scale logit(F_min + u (F_max - F_min)))`` with F the logistic distribution function."""
        low, high = (_sigmoid((math.log(end) - self.location) / self.scale) for end in (self.sigma_min, self.sigma_max))
        return torch.exp(self.location + self.scale * torch.logit(low + u * (high - low)))


@dataclass(frozen=True, kw_only=True)
class LogUniform(_Between):
    """ln sigma uniform."""

    def quantile(self, u: Tensor) -> Tensor:
        """``sigma_min (sigma_max / sigma_min)^u``."""
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** u


@dataclass(frozen=True, kw_only=True)
class Uniform(_Between):
    """Sigma uniform."""

    def quantile(self, u: Tensor) -> Tensor:
        """``sigma_min + u (sigma_max - sigma_min)``."""
        return self.sigma_min + u * (self.sigma_max - self.sigma_min)


@dataclass(frozen=True, kw_only=True)
class VDiffusion(_Between):
    """The angle ``atan(sigma / sigma_data)`` uniform (Salimans and Ho 2022), cut off at the ends.

    Attributes:
        sigma_data: Standard deviation of the data.
    """

    sigma_data: float

    def quantile(self, u: Tensor) -> Tensor:
        """``sigma_data tan(angle)``."""
        low, high = (math.atan(end / self.sigma_data) for end in (self.sigma_min, self.sigma_max))
        return self.sigma_data * torch.tan(low + u * (high - low))


@dataclass(frozen=True, kw_only=True)
class Discrete(NoiseDensity):
    """A few levels, equally often: for example those at which a sampler evaluates the network.

    Attributes:
        values: The levels.
    """

    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.values or min(self.values) <= 0:
            raise FermoError(f"a discrete noise density needs positive levels, got {self.values}")

    def quantile(self, u: Tensor) -> Tensor:
        """The level number ``floor(n u)``, ascending."""
        values = torch.tensor(sorted(self.values), dtype=u.dtype, device=u.device)
        return values[(u * len(values)).long().clamp_max(len(values) - 1)]


@dataclass(frozen=True, kw_only=True)
class SplitLogNormal(NoiseDensity):
    """ln sigma normal with one width below its mode and another above, continuous at the mode.

    Attributes:
        mode: Of ln sigma.
        std_below: Width below the mode.
        std_above: Width above it.
    """

    mode: float
    std_below: float
    std_above: float

    def quantile(self, u: Tensor) -> Tensor:
        """Each half of a normal takes a share of the draws that is proportional to its width."""
        below = self.std_below / (self.std_below + self.std_above)
        left = self.std_below * torch.special.ndtri(u.clamp_max(below) / (2 * below))
        right = self.std_above * torch.special.ndtri(0.5 + (u - below).clamp_min(0) / (2 * (1 - below)))
        return torch.exp(self.mode + torch.where(u < below, left, right))


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-value))
