"""Denoising after Karras et al. 2022, as BESO uses it."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from fermo.errors import FermoError
from fermo.policies.beso import noise_density as density
from fermo.policies.beso.config import DiffusionConfig
from fermo.policies.beso.objective import Network, Objective, pooled_std
from fermo.policies.beso.preconditioning import coefficients, network_target
from fermo.policies.beso.samplers import SAMPLERS, Sampler
from fermo.policies.beso.schedules import SCHEDULES, Schedule, karras
from fermo.policies.windowed.world_noise import Noise


class Diffusion(Objective):
    """The level is sigma; the network's error has EDM's weight.

    Attributes:
        sigma_data: Standard deviation of the scaled actions, a scalar; of all channels together where it is measured.
        sigmas: Levels that sampling visits, from the config's schedule.
    """

    sigma_data: Tensor

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("sigma_data", torch.tensor(1.0 if config.sigma_data is None else config.sigma_data))
        self.sigmas = self._schedule()(config.steps, *config.sampled)
        self.sampler = self._sampler()

    def _schedule(self) -> Schedule:
        name = self.config.schedule
        return partial(karras, rho=self.config.rho) if name == "karras" else SCHEDULES[name]

    def _sampler(self) -> Sampler:
        return SAMPLERS[self.config.sampler]

    def fit(self, actions: Tensor) -> None:
        """Measure sigma_data, unless the config gives it, and check that the range of levels holds the data."""
        config, spread = self.config, pooled_std(actions)
        if config.sampled[1] < spread:
            raise FermoError(f"sampling starts at {config.sampled[1]}, below the scaled actions' standard deviation "
                             f"{spread:.3g}, inside the data; raise start and sigma_max")  # fmt: skip
        if config.sigma_min > spread / 2:
            raise FermoError(f"sigma_min {config.sigma_min} is over half the scaled actions' standard deviation "
                             f"{spread:.3g}: what remains of the noise would drown them; lower it")  # fmt: skip
        if config.sigma_data is None:
            self.sigma_data.fill_(spread)

    def density(self) -> density.NoiseDensity:
        """The noise levels of training."""
        config, sigma_data = self.config, float(self.sigma_data)
        location = math.log(sigma_data) if config.location is None else config.location
        ends = {"sigma_min": config.sigma_min, "sigma_max": config.sigma_max}
        match config.density:
            case "log_normal":
                return density.LogNormal(mean=location, std=config.scale)
            case "log_uniform":
                return density.LogUniform(**ends)
            case "uniform":
                return density.Uniform(**ends)
            case "v_diffusion":
                return density.VDiffusion(**ends, sigma_data=sigma_data)
            case "discrete":
                return density.Discrete(values=tuple(sigma for sigma in self.sigmas if sigma > 0))
            case "split_log_normal":
                return density.SplitLogNormal(mode=location, std_below=config.scale, std_above=config.scale_above)
            case _:
                return density.TruncatedLogLogistic(**ends, location=location, scale=config.scale)

    def draw_levels(self, shape: tuple[int, ...], device: Tensor) -> Tensor:
        """From `density`."""
        return self.density().sample(shape, device=device.device)

    def noised(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """``clean + sigma noise``."""
        return clean + level[..., None] * noise

    def network_input(self, noised: Tensor, level: Tensor) -> Tensor:
        """``c_in noised``."""
        return coefficients(level, self.sigma_data).scale[..., None] * noised

    def network_level(self, level: Tensor) -> Tensor:
        """``c_noise``."""
        return coefficients(level, self.sigma_data).noise

    def network_target(self, clean: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """``(clean - c_skip noised) / c_out``."""
        return network_target(clean, self.noised(clean, noise, level), level[..., None], self.sigma_data)

    def start(self, noise: Tensor) -> Tensor:
        """As wide as the noised actions that training saw at the first level, ``sqrt(sigma^2 + sigma_data^2)``."""
        return (self.sigmas[0] ** 2 + self.sigma_data**2).sqrt() * noise

    def levels(self) -> tuple[float, ...]:
        """The schedule."""
        return self.sigmas

    def evaluations(self) -> int:
        """As many as the sampler takes."""
        return self.sampler.evaluations(self.config.steps)

    def advance(self, x: Tensor, answers: Tensor, level: Tensor, following: Tensor) -> Tensor:
        """``D + sigma' / sigma (x - D)``."""
        c = coefficients(level, self.sigma_data)
        denoised = c.skip[..., None] * x + c.out[..., None] * answers
        return torch.lerp(denoised, x, (following / level)[..., None].expand_as(x))

    def sample(self, network: Network, x: Tensor, noise: Noise) -> Tensor:
        """By the config's sampler, with ``D = c_skip x + c_out F``."""

        def denoise(x: Tensor, sigma: float) -> Tensor:
            c = coefficients(x.new_full((), sigma), self.sigma_data)
            return c.skip * x + c.out * network(x, sigma)

        return self.sampler.run(denoise, x, self.sigmas, noise, **self._churn())

    def _churn(self) -> dict[str, float]:
        return {"churn": self.config.churn} if self.sampler.churns else {}
