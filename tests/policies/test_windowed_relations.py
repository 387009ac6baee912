"""What networks read beside an observation, against what is computed from SI units by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fermo.errors import FermoError
from fermo.policies.beso.config import BesoConfig, GoalConfig
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.goal_bc.config import GoalBcConfig
from fermo.policies.goal_bc.policy import GoalBcPolicy
from fermo.policies.normalizer import Normalizer
from fermo.policies.windowed.config import GoalSourceConfig, RelationsConfig
from fermo.policies.windowed.policy import WindowedPolicy
from fermo.policies.windowed.relations import Relations
from fermo.signal import PlantSpec, Signal
from tests.policies.beso_policies import SMALL

SPEC = PlantSpec(
    observations=(
        Signal.uniform(name="hand", shape=(2,), unit="m"),
        Signal.uniform(name="block", shape=(2,), unit="m"),
        Signal.uniform(name="yaw", shape=(1,), unit="rad"),
    ),
    commands=(Signal.uniform(name="step", shape=(2,), unit="m", low=-1.0, high=1.0),),
    rate_hz=10.0,
)
BLOCK = slice(2, 4)
GOAL = GoalSourceConfig(kind="future", signals=("block",))
ALL = RelationsConfig(differences=(("hand", "block"),), goal_offset=True, harmonics=3, symmetries=(("yaw", 4),))


def data(samples: int = 200, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    spread = torch.tensor([0.1, 0.2, 0.05, 0.3, 2.0])
    return torch.tensor([0.4, -0.2, 0.3, 0.1, 0.0]) + spread * torch.randn(samples, 5, generator=generator)


def fitted(config: RelationsConfig = ALL) -> tuple[Relations, Normalizer]:
    normalizer = Normalizer(SPEC.observations)
    normalizer.fit(data())
    relations = Relations(config, SPEC, GOAL)
    relations.fit(normalizer)
    return relations, normalizer


def related(observations: Tensor, goal: Tensor) -> Tensor:
    relations, normalizer = fitted()
    told = torch.zeros(SPEC.observation_size)
    told[BLOCK] = 1.0
    return relations(normalizer(observations), normalizer(goal) * told)


def test_differences_offsets_waves_and_turns_are_those_of_si_units():
    observations, goal = data(6, seed=1)[:, None], data(6, seed=2)[:, None]
    found = related(observations, goal)[:, 0]
    std = data().double().std(0, correction=0).float()
    hand, block, yaw = observations[:, 0, :2], observations[:, 0, BLOCK], observations[:, 0, 4:]
    lengths = torch.cat([(hand - block) / ((std[:2] + std[BLOCK]) / 2), (goal[:, 0, BLOCK] - block) / std[BLOCK]], 1)
    waves = [wave(k * lengths) for k in (1.0, 2.0, 4.0) for wave in (torch.sin, torch.cos)]
    wanted = torch.cat([lengths, *waves, (4 * yaw).sin(), (4 * yaw).cos()], dim=1)
    torch.testing.assert_close(found[:, 5:], wanted, rtol=1e-4, atol=2e-5)


def test_a_turn_by_the_symmetry_changes_nothing_but_the_angle_itself():
    observations, goal = data(6, seed=1)[:, None], data(6, seed=2)[:, None]
    turned = observations.clone()
    turned[..., 4] += math.pi / 2
    change = (related(turned, goal) - related(observations, goal)).abs().amax((0, 1))
    assert change[4] > 0.5
    assert change[torch.arange(len(change)) != 4].max() < 1e-5


def test_nothing_is_away_from_a_hidden_goal():
    observations, hidden = data(6, seed=1)[:, None], torch.zeros(6, 1, SPEC.observation_size)
    relations, normalizer = fitted()
    assert not relations(normalizer(observations), hidden)[..., 7:9].any()
    goal = normalizer(data(6, seed=2)[:, None])
    assert relations(normalizer(observations), goal)[..., 7:9].all()


def test_without_relations_observations_are_all_that_is_read():
    relations, normalizer = fitted(RelationsConfig())
    observations = normalizer(data()[:, None])
    assert relations(observations, None) is observations
    assert not list(relations.buffers())


def policies() -> list[WindowedPolicy]:
    goal = GoalConfig(kind="future", signals=("block",))
    perceptron = GoalBcConfig(context=3, goal=GOAL, relations=ALL)
    transformer = replace(perceptron, backbone="transformer", transformer=SMALL)
    beso = BesoConfig(network=SMALL, context=3, goal=goal, relations=ALL)
    return [BesoPolicy(SPEC, beso), GoalBcPolicy(SPEC, perceptron), GoalBcPolicy(SPEC, transformer)]


@pytest.mark.parametrize("policy", policies(), ids=("beso", "perceptron", "transformer"))
def test_a_policy_acts_on_relations_and_keeps_their_scaling(policy: WindowedPolicy):
    policy.fit_normalization(data(), torch.randn(200, 2, generator=torch.Generator().manual_seed(3)).clamp(-1, 1))
    kept = type(policy)(SPEC, policy.config)
    kept.load_state_dict(policy.state_dict())
    goal, observations = data(4, seed=2), data(4, seed=1)
    answers = []
    for each in (policy.eval(), kept.eval()):
        each.set_goal(goal)
        answers.append(each.select_action(observations))
    assert torch.equal(*answers)
    torch.testing.assert_close(kept.network.relations.std, kept.observation_normalizer.std.float())


def test_a_checkpoint_keeps_them(tmp_path):
    policy = policies()[1]
    save_checkpoint(policy, tmp_path / "checkpoint")
    assert load_checkpoint(tmp_path / "checkpoint").config == policy.config


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"differences": (("hand", "blok"),)}, "blok"),
        ({"differences": (("hand", "yaw"),)}, "one size"),
        ({"symmetries": (("yow", 4),)}, "yow"),
    ],
)
def test_relations_of_signals_that_do_not_exist_or_do_not_fit_are_refused(config, message):
    with pytest.raises(FermoError, match=message):
        Relations(RelationsConfig(**config), SPEC, GOAL)


@pytest.mark.parametrize("config", [{"harmonics": -1}, {"symmetries": (("yaw", 0),)}])
def test_settings_that_mean_nothing_are_refused(config):
    with pytest.raises(FermoError):
        RelationsConfig(**config)


def test_an_offset_without_a_future_goal_is_refused():
    with pytest.raises(FermoError, match="goal's kind is none"):
        GoalBcConfig(relations=RelationsConfig(goal_offset=True))
