"""Small policies of the BESO family for its tests, untrained or with networks that are exact."""

from typing import Any

import torch
from torch import Tensor, nn

from fermo.policies.beso.config import BesoConfig, DiffusionConfig, GoalConfig
from fermo.policies.beso.diffusion import Diffusion
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.beso.preconditioning import coefficients
from fermo.policies.windowed.config import TransformerConfig
from fermo.signal import PlantSpec, Signal

SPEC = PlantSpec(
    observations=(
        Signal.uniform(name="position", shape=(2,), unit="m"),
        Signal.uniform(name="velocity", shape=(1,), unit="m/s"),
    ),
    commands=(Signal.uniform(name="force", shape=(2,), unit="N", low=-50.0, high=50.0),),
    rate_hz=10.0,
)
SMALL = TransformerConfig(layers=1, heads=2, width=16, attention_dropout=0.0, residual_dropout=0.0)
STD = 0.8  # of the scaled actions given an observation, in the exact networks
# So wide that where the actions lie on average makes no difference to the start.
WIDE = DiffusionConfig(steps=100, sigma_min=0.02, sigma_max=30.0, sigma_data=1.0, schedule="karras")


def data(samples: int = 400) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(samples, 3, generator=generator)
    return observations, 3.0 + 2.0 * torch.randn(samples, 2, generator=generator)


def policy(**settings: Any) -> BesoPolicy:
    made = BesoPolicy(SPEC, BesoConfig(**({"network": SMALL, "context": 3} | settings)))
    made.fit_normalization(*data())
    with torch.no_grad():
        made.network.head.weight.mul_(20)  # or all an untrained network says drowns in rounding
    return made.eval().requires_grad_(False)


def observations(worlds: int = 5, seed: int = 3) -> Tensor:
    return torch.randn(worlds, 3, generator=torch.Generator().manual_seed(seed))


def edm(made: BesoPolicy) -> Diffusion:
    assert isinstance(made.objective, Diffusion)
    return made.objective


class Counted(nn.Module):
    """A network that notes the batch of each call."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.batches = network, []

    def forward(self, *given: Any) -> Tensor:
        self.batches.append(len(given[0]))
        return self.network(*given)


def counted(made: BesoPolicy) -> list[int]:
    counter = Counted(made.network)
    made.network = counter  # type: ignore[assignment]
    return counter.batches


GOAL = torch.tensor([[1.0, -1.0, 0.5]])


def goal_policy(**settings: Any) -> BesoPolicy:
    return policy(goal=GoalConfig(kind="future", **settings))


# Exact networks: the scaled action is normal around the scaled position, whatever came before


class ExactDenoiser(nn.Module):
    """F for which D is the expectation of such an action."""

    def __init__(self, sigma_data: Tensor) -> None:
        super().__init__()
        self.sigma_data = sigma_data

    def forward(self, actions: Tensor, levels: Tensor, states: Tensor, observed: Tensor, goal: Tensor | None) -> Tensor:
        sigma, mean = torch.exp(4 * levels), states[:, -1:, :2]
        c = coefficients(sigma, self.sigma_data)
        x = actions / c.scale[..., None]
        denoised = mean + (STD**2 / (STD**2 + sigma**2))[..., None] * (x - mean)
        return (denoised - c.skip[..., None] * x) / c.out[..., None]


class ExactVelocity(nn.Module):
    """The expectation of ``clean - noise`` given ``t clean + (1 - t) noise``."""

    def forward(self, x: Tensor, levels: Tensor, states: Tensor, observed: Tensor, goal: Tensor | None) -> Tensor:
        mean, t = states[:, -1:, :2], (1 - levels)[..., None]
        slope = (t * STD**2 - (1 - t)) / (t**2 * STD**2 + (1 - t) ** 2)
        return mean + slope * (x - t * mean)


def moments(made: BesoPolicy, obs: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the scaled first action, over many worlds that see the same."""
    actions = made.action_normalizer(made.select_action(obs.expand(4_000, -1)))
    return actions.mean(0), actions.std(0)
