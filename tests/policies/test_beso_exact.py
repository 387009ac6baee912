"""Sampling with networks that are exact: the whole chain gives the distribution it should, in SI units."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from fermo.policies.beso.config import DiffusionConfig, FlowConfig
from fermo.policies.beso.flow import INTEGRATORS
from fermo.policies.beso.preconditioning import coefficients
from fermo.policies.beso.samplers import SAMPLERS
from tests.policies.beso_policies import (
    STD,
    WIDE,
    ExactDenoiser,
    ExactVelocity,
    counted,
    edm,
    moments,
    observations,
    policy,
)


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_whole_chain_samples_the_exact_distribution_in_si_units(name: Any):
    made = policy(context=1, diffusion=replace(WIDE, sampler=name))
    made.network = ExactDenoiser(edm(made).sigma_data)  # type: ignore[assignment]
    obs = observations(1)
    mean, std = moments(made, obs)
    torch.testing.assert_close(mean, made.observation_normalizer(obs)[0, :2], atol=0.06, rtol=0)
    assert std.tolist() == pytest.approx([STD, STD], rel=0.08)


@pytest.mark.parametrize("name", INTEGRATORS)
def test_flow_matching_samples_the_exact_distribution_too(name: Any):
    made = policy(context=1, objective="flow", flow=FlowConfig(integrator=name, steps=40))
    made.network = ExactVelocity()  # type: ignore[assignment]
    obs = observations(1)
    mean, std = moments(made, obs)
    torch.testing.assert_close(mean, made.observation_normalizer(obs)[0, :2], atol=0.06, rtol=0)
    assert std.tolist() == pytest.approx([STD, STD], rel=0.08)


@pytest.mark.parametrize(("name", "order"), [("euler", 1), ("heun", 2), ("midpoint", 2)])
def test_a_flow_integrator_converges_to_the_closed_form_at_its_order(name: str, order: int):
    """The solution keeps the standardised value: ``x(1) = mean + STD x(0)``."""
    mean, start = 0.7, torch.linspace(-2, 2, 5, dtype=torch.float64)

    def velocity(x: Tensor, t: float) -> Tensor:
        return mean + (t * STD**2 - (1 - t)) / (t**2 * STD**2 + (1 - t) ** 2) * (x - t * mean)

    ends = [INTEGRATORS[name](velocity, start, steps) for steps in (64, 128)]
    errors = [float((end - mean - STD * start).abs().max()) for end in ends]
    assert math.log2(errors[0] / errors[1]) > order - 0.2, "midpoint's second-order error happens to vanish here"


@pytest.mark.parametrize(("name", "calls"), [("euler", 4), ("heun", 8), ("midpoint", 8)])
def test_a_flow_costs_what_its_integrator_says(name: Any, calls: int):
    made = policy(objective="flow", flow=FlowConfig(integrator=name, steps=4))
    batches = counted(made)
    made.select_action(observations())
    assert batches == [5] * calls


def test_the_loss_is_the_objectives_regression_and_an_exact_network_leaves_only_chance():
    """With the exact F, the error is the variance of the target given what is known: less than the target's, 1."""
    made = policy(diffusion=DiffusionConfig(sigma_data=1.0))
    made.network = ExactDenoiser(edm(made).sigma_data)  # type: ignore[assignment]
    obs = observations(20_000)
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(5))
    action = made.action_normalizer.inverse(made.observation_normalizer(obs)[:, :2] + STD * noise)
    torch.manual_seed(0)
    loss = made({"observation": obs, "action": action})[0]
    sigma = made.objective.draw_levels((200_000,), obs)
    c = coefficients(sigma, torch.tensor(1.0))
    posterior = STD**2 * sigma**2 / (STD**2 + sigma**2)
    assert float(loss) == pytest.approx(float((posterior / c.out**2).mean()), rel=0.03)


def test_weights_and_absent_actions_count_in_the_loss_as_they_should():
    made = policy(chunk=2)
    obs, actions = torch.randn(6, 3, 3), torch.randn(6, 4, 2)
    acted = torch.ones(6, 4, dtype=torch.bool)
    acted[:3] = False

    def loss(**changed: Tensor) -> Tensor:
        torch.manual_seed(1)
        return made({"observation": obs, "action": actions, **changed})[0]

    assert torch.equal(loss(acted=acted), loss(weight=torch.tensor([0.0] * 3 + [1.0] * 3)))
    torch.testing.assert_close(loss(weight=torch.full((6,), 0.3)), loss())
    assert not torch.equal(loss(acted=acted), loss())
