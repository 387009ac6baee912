"""Denoising diffusion in discrete steps (Ho et al. 2020), as Diffusion Policy (Chi et al. 2023) uses it."""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor

from fermo.errors import FermoError
from fermo.policies.beso.config import DdpmConfig
from fermo.policies.beso.objective import Network, Objective, pooled_std
from fermo.policies.windowed.world_noise import Noise

OFFSET, LARGEST_BETA = 0.008, 0.999  # of Nichol and Dhariwal's schedule


def squared_cosine(steps: int) -> Tensor:
    """``alpha_bar_t`` for t = 0 to `steps`, with ``alpha_bar_0 = 1``, float64 (Nichol and Dhariwal 2021, eq. 17).

    ``beta_t = min(1 - f(t) / f(t - 1), 0.999)`` with ``f(t) = cos^2((t / steps + s) / (1 + s) pi / 2)``, and
    ``alpha_bar_t`` is the product of the ``1 - beta`` up to t.
    """
    f = torch.cos((torch.arange(steps + 1, dtype=torch.float64) / steps + OFFSET) / (1 + OFFSET) * math.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp_max(LARGEST_BETA)
    return torch.cat([beta.new_ones(1), (1 - beta).cumprod(0)])


class Ddpm(Objective):
    """At step t of T an action is ``sqrt(alpha_bar_t) clean + sqrt(1 - alpha_bar_t) epsilon``; the level is t.

    The network learns epsilon.

    Attributes:
        signal: ``sqrt(alpha_bar)`` at each level, shape ``(T + 1,)``.
        spread: ``sqrt(1 - alpha_bar)``, likewise.
        low: What an estimate of the clean action is kept above, shape ``(action_size,)``.
        high: And below.
    """

    signal: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, config: DdpmConfig, action_size: int) -> None:
        super().__init__()
        self.config = config
        alpha_bar = squared_cosine(config.training_steps)
        signal, spread = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        self.shares = list(zip(signal.tolist(), spread.tolist(), strict=True))  # in double precision
        self.register_buffer("signal", signal.float(), persistent=False)
        self.register_buffer("spread", spread.float(), persistent=False)
        limit = torch.full((action_size,), torch.finfo(torch.float32).max)  # a checkpoint holds finite numbers only
        self.register_buffer("low", -limit)
        self.register_buffer("high", limit)

    @torch.no_grad()
    def fit(self, actions: Tensor) -> None:
        """Take the demonstrated range, and check that the noise suits it."""
        std, smallest = pooled_std(actions), self.shares[1][1]
        if smallest > std / 2:
            raise FermoError(f"ddpm's smallest noise {smallest:.3g} is over half the scaled actions' standard "
                             f"deviation {std:.3g}: take action_scaling standard or min_max")  # fmt: skip
        if self.config.clip_sample:
            self.low.copy_(actions.amin(0))
            self.high.copy_(actions.amax(0))

    def draw_levels(self, shape: tuple[int, ...], device: Tensor) -> Tensor:
        """Uniform over 1 to T."""
        return torch.randint(1, len(self.signal), shape, device=device.device).to(self.signal.dtype)

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """``sqrt(alpha_bar) clean + sqrt(1 - alpha_bar) noise``."""
        t = level.long()[..., None]
        return self.signal[t] * clean + self.spread[t] * noise

    def network_input(self, noised: Tensor, level: Tensor) -> Tensor:
        """As it is."""
        return noised

    def network_level(self, level: Tensor) -> Tensor:
        """``t / T``."""
        return level / self.config.training_steps

    def network_target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """The noise."""
        return noise

    def start(self, noise: Tensor) -> Tensor:
        """The noise itself."""
        return noise

    def levels(self) -> tuple[float, ...]:
        """From T to 0, as evenly as whole steps allow."""
        total, steps = self.config.training_steps, self.config.steps
        return tuple(float(total - total * step // steps) for step in range(steps + 1))

    def evaluations(self) -> int:
        """One a step."""
        return self.config.steps

    def advance(self, x: Tensor, answers: Tensor, level: Tensor, following: Tensor) -> Tensor:
        """DDIM's step (Song et al. 2021, eq. 12 without noise)."""
        t = level.long()[..., None]
        clean, epsilon = self._estimates(x, answers, self.signal[t], self.spread[t])
        return self.noised(clean, epsilon, following)

    def sample(self, network: Network, x: Tensor, noise: Noise) -> Tensor:
        """By steps of Song et al. 2021, eq. 12, from t to t': ``sqrt(ab') clean + sqrt(1 - ab' - s^2) epsilon + s z``.

        DDIM has s = 0, DDPM eq. 16 with eta = 1, ``s^2 = (1 - ab') / (1 - ab) (1 - ab / ab')``, which for t' = t - 1 is
        Ho et al.'s posterior variance, the smaller of the two they offer.
        """
        eta = 1.0 if self.config.sampler == "ddpm" else 0.0
        for t, following in pairwise(self.levels()):
            (signal, spread), (next_signal, next_spread) = self.shares[int(t)], self.shares[int(following)]
            s = eta * next_spread / spread * math.sqrt(1 - (signal / next_signal) ** 2)
            clean, epsilon = self._estimates(x, network(x, t), signal, spread)
            x = next_signal * clean + math.sqrt(next_spread**2 - s**2) * epsilon
            if s > 0:
                x = x + s * noise(x)
        return x

    def _estimates(self, x: Tensor, answers: Tensor, signal: Tensor | float,
                   spread: Tensor | float) -> tuple[Tensor, Tensor]:  # fmt: skip
        """The clean action, kept in the range, and the noise that goes with it."""
        clean = ((x - spread * answers) / signal).clamp(self.low, self.high)
        return clean, (x - signal * clean) / spread
