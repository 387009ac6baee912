"""From noise to actions in one evaluation of the network: consistency models (Song et al. 2023)."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from fermo.errors import FermoError
from fermo.policies.beso.config import DiffusionConfig
from fermo.policies.beso.diffusion import Diffusion
from fermo.policies.beso.objective import Network
from fermo.policies.beso.preconditioning import coefficients
from fermo.policies.beso.samplers import SAMPLERS, Sampler
from fermo.policies.beso.schedules import Schedule, karras
from fermo.policies.windowed.world_noise import Noise


class Consistency(Diffusion):
    """f(x, sigma) is where the probability-flow ODE through x at sigma comes to at sigma_min.

    With ``e = sigma_min`` and ``s^2 = sigma^2 + sigma_data^2``, ``f = c_skip x + c_out F(x / s; ln(sigma) / 4)`` has
    ``c_skip = sigma_data^2 / ((sigma - e)^2 + sigma_data^2)`` and ``c_out = (sigma - e) sigma_data / s``, so that f is
    the identity at e whatever the network says (Song et al. 2023, appendix C). It is distilled from a trained
    diffusion, by `fermo.training.loops.consistency`. More than one step alternates f with fresh noise (algorithm 1
    there).

    Attributes:
        grid: Rising levels between which it is distilled; empty in a policy that is finished.
    """

    grid: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__(config)
        levels = self._schedule()(config.steps + 1, config.sigma_min, config.sigma_max)
        self.sigmas = (*levels[: config.steps], 0.0)  # at sigma_min there is nothing left to do
        self.register_buffer("grid", torch.empty(0), persistent=False)

    def _schedule(self) -> Schedule:
        return partial(karras, rho=self.config.rho)

    def _sampler(self) -> Sampler:
        return SAMPLERS["euler"]  # it takes no steps of the ODE, and as many evaluations

    def discretise(self, levels: int) -> None:
        """Distil between so many levels, Karras' from sigma_min to sigma_max."""
        falling = self._schedule()(levels, self.config.sigma_min, self.config.sigma_max)[:-1]
        self.grid = torch.tensor(falling[::-1], device=self.sigma_data.device)

    def draw_levels(self, shape: tuple[int, ...], device: Tensor) -> Tensor:
        """Uniform over the grid but its lowest level, where there is nothing to learn."""
        if not len(self.grid):
            raise FermoError("a consistency policy is not trained on demonstrations alone: train one of objective edm, "
                             "then fermo distill its checkpoint")  # fmt: skip
        return self.grid[torch.randint(1, len(self.grid), shape, device=device.device)]

    def following(self, level: Tensor) -> Tensor:
        """The next level below each of the grid's; 0 stays."""
        lower = self.grid[(torch.searchsorted(self.grid, level.contiguous()) - 1).clamp_min(0)]
        return torch.where(level > 0, lower, 0.0)

    def end(self, x: Tensor, answers: Tensor, level: Tensor) -> Tensor:
        """f, given the network's answers; a clean action, of level 0, stays as it is.

        Args:
            x: Shape ``(..., action_size)``.
            answers: F, likewise.
            level: Shape ``(...)``.
        """
        c, beyond = coefficients(level, self.sigma_data), (level - self.config.sigma_min).clamp_min(0)
        skip = self.sigma_data**2 / (beyond**2 + self.sigma_data**2)
        out = beyond * self.sigma_data * c.scale
        return skip[..., None] * x + out[..., None] * answers

    def sample(self, network: Network, x: Tensor, noise: Noise) -> Tensor:
        """To the end, and for each further step back to a lower level by fresh noise and to the end again."""
        for level, following in pairwise(self.sigmas):
            x = self.end(x, network(x, level), x.new_full(x.shape[:-1], level))
            if following > 0:
                x = x + math.sqrt(following**2 - self.config.sigma_min**2) * noise(x)
        return x
