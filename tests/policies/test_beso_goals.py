"""Goals and guidance."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from fermo.errors import FermoError
from fermo.policies.beso.config import DiffusionConfig, GoalConfig
from tests.policies.beso_policies import GOAL, counted, goal_policy, observations, policy


@pytest.mark.parametrize(("guidance", "batches"), [(0.0, [5] * 3), (1.0, [5] * 3), (2.0, [10] * 3)])
def test_guidance_of_zero_and_one_costs_one_pass_and_another_a_doubled_batch(guidance: float, batches: list[int]):
    made = goal_policy(guidance=guidance)
    made.set_goal(GOAL)
    seen = counted(made)
    made.select_action(observations())
    assert seen == batches


def test_guidance_of_zero_is_the_goal_free_policy_and_of_one_the_plain_conditional_one():
    obs = observations()
    free, without = goal_policy(guidance=0.0), goal_policy(guidance=1.0)
    free.set_goal(GOAL)
    assert torch.equal(free.select_action(obs), without.select_action(obs)), "no goal set is no goal"
    plain, nearly = goal_policy(guidance=1.0), goal_policy(guidance=1.0 + 1e-7)
    for made in (plain, nearly):
        made.set_goal(GOAL)
    torch.testing.assert_close(plain.select_action(obs), nearly.select_action(obs), atol=1e-4, rtol=0)
    plain.reset()
    assert not torch.allclose(plain.select_action(obs), free.select_action(obs), atol=1e-3)


def test_guidance_extrapolates_the_denoiser():
    obs, answers = observations(), {}
    one_step = DiffusionConfig(steps=1)  # then the action is affine in D
    for guidance in (0.0, 1.0, 2.5):
        made = policy(goal=GoalConfig(kind="future", guidance=guidance), diffusion=one_step)
        made.set_goal(GOAL)
        answers[guidance] = made.select_action(obs)
    torch.testing.assert_close(answers[2.5], answers[0.0] + 2.5 * (answers[1.0] - answers[0.0]), atol=1e-4, rtol=1e-4)


def test_guidance_acts_only_inside_its_interval():
    made = goal_policy(guidance=3.0, guidance_interval=(0.1, 1.0))
    made.set_goal(GOAL)
    seen = counted(made)
    made.select_action(observations())
    assert [sigma for sigma in made.objective.levels() if sigma] == pytest.approx([5.0, 0.5, 0.05])
    assert seen == [5, 10, 5]


def test_each_world_may_have_its_own_goal():
    made, obs = goal_policy(), observations()
    goals = torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(2))
    made.set_goal(goals)
    together = made.select_action(obs)
    for world in range(5):
        made.reset()
        made.set_goal(goals[world])
        torch.testing.assert_close(made.select_action(obs)[world], together[world])


def test_goal_signals_that_do_not_count_change_nothing():
    made, obs = goal_policy(signals=("position",)), observations()
    made.set_goal(GOAL)
    first = made.select_action(obs)
    made.reset()
    made.set_goal(GOAL + torch.tensor([0.0, 0.0, 9.0]))
    assert torch.equal(made.select_action(obs), first)
    made.reset()
    made.set_goal(GOAL + torch.tensor([9.0, 0.0, 0.0]))
    assert not torch.equal(made.select_action(obs), first)


def test_training_hides_whole_goals_at_the_configs_rate():
    made = goal_policy(dropout=0.3)
    hidden = made.goals.hide(torch.ones(20_000, 1, 3))
    per_sample = hidden.sum((1, 2))
    assert set(per_sample.unique().tolist()) == {0.0, 3.0}
    assert float((per_sample == 0).float().mean()) == pytest.approx(0.3, abs=0.015)


@pytest.mark.parametrize("kind", ["one_hot", "features"])
def test_a_goal_may_be_a_vector_from_outside(kind: Any):
    made = policy(goal=GoalConfig(kind=kind, size=4))
    obs = observations()
    actions = []
    for number in range(4):
        made.reset()
        made.set_goal(torch.eye(4)[number])
        actions.append(made.select_action(obs))
    assert all(not torch.allclose(a, b) for a, b in itertools.combinations(actions, 2))
    goals = torch.eye(4)[[0, 1, 2, 3, 0, 1]][:, None]
    batch = {"observation": torch.randn(6, 3), "action": torch.randn(6, 2), "goal": goals}
    assert made(batch)[0].isfinite()


@pytest.mark.parametrize(
    ("goal", "problem"),
    [
        (torch.zeros(4), r"has shape \(1, 3\).*got \(4,\)"),
        (torch.zeros(2, 2, 3), r"got \(2, 2, 3\)"),
        (torch.tensor([[0.0, torch.nan, 0.0]]), "NaN or infinity"),
    ],
)
def test_a_goal_that_does_not_fit_is_refused(goal: Tensor, problem: str):
    with pytest.raises(FermoError, match=problem):
        goal_policy().set_goal(goal)


def test_a_goal_is_refused_where_none_is_known_missed_where_one_is_needed_and_counted():
    with pytest.raises(FermoError, match="knows no goals"):
        policy().set_goal(GOAL)
    with pytest.raises(FermoError, match="call set_goal first"):
        goal_policy(dropout=0.0).select_action(observations())
    made = goal_policy()
    made.set_goal(torch.zeros(4, 1, 3))
    with pytest.raises(FermoError, match="4 worlds and there are 5"):
        made.select_action(observations())
    with pytest.raises(FermoError, match="the batch has none"):
        made({"observation": torch.zeros(2, 3), "action": torch.zeros(2, 2)})
