"""The family `goal_bc`: every head on every network, its goals, its memory, and what it makes of two ways to go."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.goal_bc.config import BehaviorTransformerConfig, GoalBcConfig, MixtureConfig, PerceptronConfig
from fermo.policies.goal_bc.policy import HEADS, GoalBcPolicy
from fermo.policies.registry import make_policy
from fermo.policies.windowed.config import GoalSourceConfig
from fermo.policies.windowed.policy import WindowedPolicy
from fermo.training.loops.bc import train_bc
from fermo.training.loops.bc_config import BcConfig
from tests.policies import beso_policies as beso
from tests.policies.beso_policies import GOAL, SMALL, SPEC, data, observations

SIZES = {"context": 3, "perceptron": PerceptronConfig(hidden=(32,)), "transformer": SMALL,
         "behavior_transformer": BehaviorTransformerConfig(bins=16), "mixture": MixtureConfig(spread=1.0)}  # fmt: skip
VARIANTS = [(head, backbone) for head in HEADS for backbone in ("perceptron", "transformer")]


def policy(head: str = "regression", backbone: str = "perceptron", **settings: Any) -> GoalBcPolicy:
    made = GoalBcPolicy(SPEC, GoalBcConfig(head=head, backbone=backbone, **(SIZES | settings)))  # type: ignore[arg-type]
    made.fit_normalization(*data())
    return made.eval().requires_grad_(False)


@pytest.fixture(params=VARIANTS, ids="-".join)
def variant(request: pytest.FixtureRequest) -> tuple[str, str]:
    return request.param


# Every head on every network


def test_a_checkpoint_gives_bitwise_the_same_actions(variant: tuple[str, str], tmp_path):
    made = policy(*variant, goal=GoalSourceConfig(kind="future"))
    made.set_goal(GOAL)
    loaded = load_checkpoint(save_checkpoint(made, tmp_path / "checkpoint"))
    assert isinstance(loaded, GoalBcPolicy) and loaded.config == made.config
    loaded.set_goal(GOAL)
    for seed in range(3):
        assert torch.equal(loaded.select_action(observations(seed=seed)), made.select_action(observations(seed=seed)))


def test_a_worlds_actions_do_not_depend_on_its_company(variant: tuple[str, str]):
    wide, narrow = policy(*variant), policy(*variant)
    for seed in range(3):
        obs = observations(7, seed)
        torch.testing.assert_close(wide.select_action(obs)[:3], narrow.select_action(obs[:3]))


def test_only_heads_that_draw_have_chance_and_it_follows_seed_episode_and_step(variant: tuple[str, str]):
    made, alike = policy(*variant, context=1), observations(1).expand(200, -1)
    first, following = made.select_action(alike), made.select_action(alike)
    assert (len(first.unique(dim=0)) == 1) == (variant[0] == "regression")
    assert torch.equal(first, following) == (variant[0] == "regression")
    made.reset()
    assert torch.equal(made.select_action(alike), first)
    other = GoalBcPolicy(SPEC, replace(made.config, seed=1))
    other.load_state_dict(made.state_dict())
    assert torch.equal(other.eval().select_action(alike), first) == (variant[0] == "regression")


def test_nan_stays_in_its_world_and_is_not_remembered(variant: tuple[str, str]):
    made, obs = policy(*variant), observations()
    clean = made.select_action(obs)
    made.reset()
    spoilt = obs.clone()
    spoilt[3, 1] = torch.nan
    action = made.select_action(spoilt)
    others = torch.arange(5) != 3
    assert action[3].isnan().all() and torch.equal(action[others], clean[others])
    assert made.select_action(obs).isfinite().all()


def test_the_past_matters_and_a_reset_world_has_none(variant: tuple[str, str]):
    made, obs = policy(*variant), observations()
    fresh = made.predict_action_chunk(obs)
    made.select_action(observations(seed=8))
    later = made.predict_action_chunk(obs)
    assert torch.equal(made.predict_action_chunk(obs), later) and not torch.allclose(later, fresh)
    made.reset()
    assert torch.equal(made.predict_action_chunk(obs), fresh)


def test_what_was_not_observed_leaves_no_trace_in_answers_or_loss(variant: tuple[str, str]):
    """A window that begins before its episode is the shorter window."""
    made, generator = policy(*variant), torch.Generator().manual_seed(1)
    obs, actions = torch.randn(6, 3, 3, generator=generator), torch.randn(6, 3, 2, generator=generator)
    there = torch.tensor([False, True, True]).expand(6, 3)
    padded = made({"observation": obs, "action": actions, "observed": there, "acted": there})[0]
    short = made({"observation": obs[:, 1:], "action": actions[:, 1:]})[0]
    torch.testing.assert_close(padded, short)
    obs[:, 0] += 9
    assert torch.equal(made({"observation": obs, "action": actions, "observed": there, "acted": there})[0], padded)


def test_weights_scale_samples_and_weight_decay_spares_biases(variant: tuple[str, str]):
    made = policy(*variant)
    obs, actions = torch.randn(6, 3, 3), torch.randn(6, 3, 2)
    first = made({"observation": obs[:3], "action": actions[:3]})[0]
    weight = torch.tensor([0.7] * 3 + [0.0] * 3)
    torch.testing.assert_close(made({"observation": obs, "action": actions, "weight": weight})[0], first)
    spared = {id(parameter) for parameter in made.undecayed_parameters()}
    biases = {id(parameter) for name, parameter in made.named_parameters() if name.endswith("bias")}
    assert biases <= spared and len(spared) < len(list(made.parameters()))


# Networks


@pytest.mark.parametrize("backbone", ["perceptron", "transformer"])
def test_an_answer_depends_on_all_that_was_seen_and_on_nothing_later(backbone: str):
    perceptron = PerceptronConfig(hidden=(64,), activation="tanh")
    goal_source = GoalSourceConfig(kind="future", frames=2)
    network = policy(backbone=backbone, context=4, perceptron=perceptron, goal=goal_source).network.double()
    obs = torch.randn(1, 4, 3, dtype=torch.float64, requires_grad=True)
    goal = torch.randn(1, 2, 3, dtype=torch.float64, requires_grad=True)
    answers = network(obs, torch.ones(1, 4, dtype=torch.bool), goal)[0]
    assert answers.shape == ((1, 2) if backbone == "perceptron" else (4, 2))
    for row, answer in enumerate(answers.sum(1), start=4 - len(answers)):
        by_obs, by_goal = torch.autograd.grad(answer, (obs, goal), retain_graph=True)
        assert ((by_obs[0] != 0).all(1) == (torch.arange(4) <= row)).all() and (by_goal[0] != 0).all()


def test_a_chunk_is_learned_at_every_observation_that_has_one():
    """With H = 2, the answer at s_t is compared with a_t and a_t+1."""
    made = policy(backbone="transformer", chunk=2)
    obs, actions = torch.randn(4, 3, 3), torch.randn(4, 4, 2)
    answers = made.network(made.observation_normalizer(obs), torch.ones(4, 3, dtype=torch.bool), None)
    scaled = made.action_normalizer(actions)
    chunks = torch.stack([scaled[:, t : t + 2] for t in range(3)], 1)
    expected = (answers.reshape(4, 3, 2, 2) - chunks).square().mean()
    torch.testing.assert_close(made({"observation": obs, "action": actions})[0], expected)


# Learning


class Affine(nn.Module):
    """A linear map of the latest observation in a network's place."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)

    def forward(self, obs: Tensor, observed: Tensor, goal: Tensor | None) -> Tensor:
        return self.linear(obs[:, -1:])


def test_regression_on_a_linear_map_is_least_squares():
    torch.manual_seed(0)
    obs, noise = torch.randn(300, 3), torch.randn(300, 2)
    actions = obs @ torch.tensor([[1.0, -2.0], [0.5, 0.0], [3.0, 1.0]]) + 0.7 + 0.5 * noise
    made = GoalBcPolicy(SPEC, GoalBcConfig(**SIZES))  # type: ignore[arg-type]
    made.fit_normalization(obs, actions)
    made.network = Affine()  # type: ignore[assignment]
    optimizer = torch.optim.LBFGS(made.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = made({"observation": obs, "action": actions})[0]
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]
    features = np.column_stack([obs.numpy(), np.ones(300)])
    solution = np.linalg.lstsq(features, actions.numpy(), rcond=None)[0]
    inside = made.clip(torch.from_numpy(features @ solution).float())
    torch.testing.assert_close(made.eval().predict_action_chunk(obs)[:, 0].detach(), inside, atol=2e-3, rtol=0)


def two_ways(samples: int = 1024) -> tuple[Tensor, Tensor, Tensor]:
    """At the same observation half of the demonstrators go left and half right."""
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(samples, 3, generator=generator)
    right = torch.randint(2, (samples,), generator=generator)
    return obs, 2.0 * right[:, None] - 1 + 0.05 * torch.randn(samples, 2, generator=generator), right


def trained(head: str, backbone: str, goal: GoalSourceConfig) -> tuple[GoalBcPolicy, Tensor]:
    obs, actions, right = two_ways()
    made = make_policy("goal_bc", SPEC, GoalBcConfig(head=head, backbone=backbone, goal=goal, **SIZES | {"context": 1}))  # type: ignore
    goals = torch.eye(2)[right] if goal.kind == "one_hot" else None
    train_bc(made, obs, actions, config=BcConfig(steps=400, batch_size=128, lr=1e-2, ema_decay=0.95), goals=goals)
    assert isinstance(made, GoalBcPolicy)
    return made.requires_grad_(False), obs


@pytest.mark.parametrize("head", HEADS)
def test_regression_averages_two_ways_and_the_other_heads_keep_both(head: str):
    made, obs = trained(head, "perceptron", GoalSourceConfig())
    actions = made.select_action(obs)
    if head == "regression":
        assert float(actions.abs().mean()) < 0.2
        return
    assert float((actions.abs() > 0.7).all(1).float().mean()) > 0.95, "nobody goes through the middle"
    assert ((actions[:, 0] > 0) == (actions[:, 1] > 0)).float().mean() > 0.95, "a way has both its coordinates"
    assert float((actions[:, 0] > 0).float().mean()) == pytest.approx(0.5, abs=0.1)


def test_a_goal_chooses_the_way(variant: tuple[str, str]):
    made, obs = trained(*variant, GoalSourceConfig(kind="one_hot", size=2))
    for number, sign in ((0, -1.0), (1, 1.0)):
        made.set_goal(torch.eye(2)[number])
        assert float(((sign * made.select_action(obs)) > 0.7).all(1).float().mean()) > 0.95


# Goals, the same as BESO's


def goal_policy(family: str, **settings: Any) -> WindowedPolicy:
    if family == "beso":
        return beso.goal_policy(**settings)
    return policy(goal=GoalSourceConfig(kind="future", **settings))


@pytest.fixture(params=["beso", "goal_bc"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize(
    ("goal", "problem"),
    [
        (torch.zeros(4), r"a goal of this policy has shape \(1, 3\), or \(N, 1, 3\) for N worlds; got \(4,\)"),
        (torch.zeros(2, 2, 3), r"got \(2, 2, 3\)"),
        (torch.tensor([[0.0, torch.inf, 0.0]]), "the goal holds NaN or infinity"),
    ],
)
def test_a_goal_that_does_not_fit_is_refused_in_the_same_words(family: str, goal: Tensor, problem: str):
    with pytest.raises(FermoError, match=problem):
        goal_policy(family).set_goal(goal)


def test_a_goal_is_refused_or_missed_in_the_same_words(family: str):
    ignorant = beso.policy() if family == "beso" else policy()
    with pytest.raises(FermoError, match="knows no goals"):
        ignorant.set_goal(GOAL)
    with pytest.raises(FermoError, match="call set_goal first"):
        goal_policy(family, dropout=0.0).select_action(observations())
    made = goal_policy(family)
    made.set_goal(torch.zeros(4, 1, 3))
    with pytest.raises(FermoError, match="4 worlds and there are 5"):
        made.select_action(observations())
    with pytest.raises(FermoError, match="learns from goals of kind future, and the batch has none"):
        made({"observation": torch.zeros(2, 3), "action": torch.zeros(2, 2)})
    with pytest.raises(FermoError, match="unknown goal signal 'positon': did you mean 'position'"):
        goal_policy(family, signals=("positon",))


def test_goals_move_the_actions_by_the_signals_that_count(variant: tuple[str, str]):
    made, obs = policy(*variant, goal=GoalSourceConfig(kind="future", signals=("position",))), observations()
    answers = []
    for goal in (None, GOAL, GOAL + torch.tensor([0.0, 0.0, 9.0]), GOAL + torch.tensor([9.0, 0.0, 0.0])):
        made.reset()
        made.set_goal(goal)
        answers.append(made.predict_action_chunk(obs))
    assert torch.equal(answers[1], answers[2])
    assert not torch.allclose(answers[0], answers[1]) and not torch.allclose(answers[1], answers[3])
