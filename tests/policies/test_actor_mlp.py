"""What `actor_mlp` adds to the families' contract: the commands' own range, two squashes, clipped observations."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fermo.errors import FermoError
from fermo.policies.actor_mlp.config import ActorMlpConfig
from fermo.policies.actor_mlp.policy import ActorMlpPolicy
from fermo.policies.network import mlp
from fermo.signal import PlantSpec, Signal

LOW, HIGH = torch.tensor([-1.0, 0.0]), torch.tensor([3.0, 0.5])
SPEC = PlantSpec(
    observations=(Signal.uniform(name="position", shape=(3,), unit="m"),),
    commands=(Signal(name="target", shape=(2,), unit="m", low=tuple(LOW.tolist()), high=tuple(HIGH.tolist())),),
    rate_hz=50.0,
)


def actor(**changed: Any) -> tuple[ActorMlpPolicy, nn.Sequential]:
    """A policy, and the network of a learner whose actor it took over."""
    policy = ActorMlpPolicy(SPEC, ActorMlpConfig(hidden=(8,), **changed))
    learner = mlp((3, 8, 2), "tanh", torch.Generator().manual_seed(3))
    layers = [layer for layer in learner if isinstance(layer, nn.Linear)]
    policy.take_over(layers, torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, 1.0, 2.0]))
    return policy, learner


def to_command(unit: torch.Tensor) -> torch.Tensor:
    return (LOW + HIGH) / 2 + (HIGH - LOW) / 2 * unit


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-50, 50), min_size=3, max_size=3), st.sampled_from(["clip", "tanh"]))
def test_the_action_is_the_learners_in_the_commands_range(values: list[float], squash: Any) -> None:
    policy, learner = actor(squash=squash)
    obs = torch.tensor([values])
    output = learner((obs - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([0.5, 1.0, 2.0]))
    unit = output.clamp(-1, 1) if squash == "clip" else output.tanh()
    action = policy.select_action(obs)
    torch.testing.assert_close(action, to_command(unit), atol=1e-5, rtol=1e-5)
    assert (action >= LOW).all() and (action <= HIGH).all()


def test_observations_are_cut_off_in_standard_deviations() -> None:
    policy, _ = actor(observation_clip=2.0)
    far, edge = torch.tensor([[100.0, -100.0, 3.0]]), torch.tensor([[2.0, 0.0, 3.0]])
    assert torch.equal(policy.select_action(far), policy.select_action(edge))
    assert not torch.equal(actor()[0].select_action(far), actor()[0].select_action(edge))


def test_observations_may_be_double() -> None:
    policy, _ = actor()
    obs = torch.randn(4, 3)
    action = policy.select_action(obs.double())
    assert action.dtype == torch.float32 and torch.equal(action, policy.select_action(obs))


def test_what_has_no_range_is_refused() -> None:
    free = dataclasses.replace(SPEC, commands=(Signal.uniform(name="torque", shape=(2,), unit="N m"),))
    with pytest.raises(FermoError, match="bounded commands, and torque"):
        ActorMlpPolicy(free, ActorMlpConfig())


@pytest.mark.parametrize(
    "changed, told",
    [
        ({"squash": "fold"}, "choose from clip, tanh"),
        ({"observation_clip": 0.0}, "must be positive"),
        ({"hidden": ()}, "width"),
    ],
)
def test_a_config_checks_itself(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(FermoError, match=told):
        ActorMlpConfig(**changed)
