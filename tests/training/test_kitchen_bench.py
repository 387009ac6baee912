"""Goals of FrankaKitchen: what a goal asks for, what a policy is scored, and the figures against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.tasks import franka_kitchen_metrics as metrics
from fermo.envs.tasks.franka_kitchen import START_QPOS, FrankaKitchen, FrankaKitchenConfig
from fermo.errors import FermoError
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.beso.presets import default
from fermo.training.bench.franka_kitchen import KitchenGoals, KitchenOutcome, evaluate_kitchen, score_kitchen
from fermo.training.data.reader import Dataset
from fermo.training.demos.kitchen_curation import SEQUENCE_COLUMN
from fermo.training.demos.kitchen_expert import KitchenCook, KitchenExpert, KitchenExpertConfig

LIGHT, KETTLE = metrics.LIGHT_SWITCH, metrics.KETTLE


def goals(orders: list[list[int]]) -> KitchenGoals:
    """Ends in which the sub-tasks of each order stand at their goals."""
    observations = torch.tensor(START_QPOS).repeat(len(orders), 2, 1)
    for i, order in enumerate(orders):
        for number in order:
            subtask = metrics.SUBTASKS[number]
            observations[i, :, slice(*subtask.elements)] = torch.tensor(subtask.goal)
    return KitchenGoals(observations=observations, orders=torch.tensor(orders))


class GoalReader:
    """The script as a policy: does the light or the kettle, whichever the goal's last frame shows done."""

    def __init__(self, task: FrankaKitchen) -> None:
        self.task, self.resets = task, 0

    def set_goal(self, goal: Tensor) -> None:
        shown = metrics.distances(goal[:, -1].double()) < 0.3
        first = torch.where(shown[:, LIGHT], LIGHT, KETTLE)
        expert = KitchenExpert(self.task, KitchenExpertConfig(miss_share=0.0, speed_spread=0.0))
        self.cook = KitchenCook(expert, first[:, None], WorldRandom.first_episodes(0, len(goal)))
        self.cook.variants[:] = 0

    def reset(self, mask: Tensor | None = None) -> None:
        self.resets += 1

    def select_action(self, obs: Tensor) -> Tensor:
        return self.cook(obs)


def test_a_policy_is_scored_for_what_its_goal_wanted() -> None:
    """The second is asked for neither by its order, though its goal shows the kettle moved: rewarded, no result."""
    task = FrankaKitchen(FrankaKitchenConfig(episode_s=4.0))
    asked = goals([[LIGHT, 0, 2, 3], [KETTLE, 0, 2, 3]])
    asked = replace(asked, orders=torch.tensor([[LIGHT, 0, 2, 3], [0, 2, 3, 5]]))
    reader = GoalReader(task)
    found = evaluate_kitchen(task, reader, asked, seed=3)
    assert reader.resets == 1 and found.lengths.tolist() == [50, 50]
    assert found.rewards.tolist() == [1.0, 1.0] and found.results.tolist() == [1.0, 0.0]
    assert found.remaining.tolist() == pytest.approx([0.75, 1.0], abs=0.1)  # one of four done; none
    assert found.orders.tolist() == [[LIGHT, -1, -1, -1], [KETTLE, -1, -1, -1]]
    assert torch.equal(found.wanted, asked.orders)


def test_a_diffusion_policy_takes_these_goals() -> None:
    task = FrankaKitchen(FrankaKitchenConfig(episode_s=0.24))
    config = default("kitchen")
    small = replace(config, network=replace(config.network, layers=1, heads=2, width=16))
    found = evaluate_kitchen(task, BesoPolicy(task.spec, small), goals([[0, 1, 2, 3]] * 3), seed=0)
    assert found.lengths.tolist() == [3] * 3 and found.results.tolist() == [0.0] * 3


def test_goals_are_the_last_two_frames_and_what_was_done() -> None:
    orders = torch.tensor([[0, 1, 2, 4], [4, 5, 6, 3]])
    sequence = metrics.one_hot(orders).flatten(1).numpy()
    dataset = Dataset(spec=FrankaKitchen().spec, observations=np.arange(150, dtype=np.float32).reshape(5, 30),
                      actions=np.zeros((5, 9), np.float32), episode_index=np.array([0, 0, 1, 1, 1]),
                      success=np.ones(2, bool), tasks=("a", "a"),
                      extras={SEQUENCE_COLUMN: np.repeat(sequence, [2, 3], axis=0)})  # fmt: skip
    found = KitchenGoals.of(dataset)
    assert found.observations[:, :, 0].tolist() == [[0, 30], [90, 120]] and torch.equal(found.orders, orders)
    assert found.wanted().int().tolist() == [[1, 1, 1, 0, 1, 0, 0], [0, 0, 0, 1, 1, 1, 1]]
    again = found.draw(4, seed=1)
    assert torch.equal(again.orders[:2], again.orders[2:]) and not torch.equal(again.orders[0], again.orders[1])
    with pytest.raises(FermoError, match="no column 'subtask_sequence'"):
        KitchenGoals.of(replace(dataset, extras={}))


def outcome(orders: list[list[int]]) -> KitchenOutcome:
    n = torch.tensor(orders)
    done = (n >= 0).sum(dim=1).double()
    return KitchenOutcome(rewards=done, results=done, remaining=1 - done / 4, orders=n, wanted=n,
                          lengths=torch.ones(len(n)))  # fmt: skip


def test_figures_against_closed_forms() -> None:
    a, b, c, other, short = [0, 1, 2, 3], [0, 1, 2, 4], [1, 2, 4, 5], [4, 3, 2, 1], [0, 1, -1, -1]
    demonstrated = torch.tensor([a, b, b, c])
    scores = score_kitchen(outcome([a, a, b, other, short]), demonstrated)
    assert scores.orders.tolist() == [a, b, c] and scores.shown.tolist() == [2, 1, 0]
    assert scores.unseen == pytest.approx(1 / 4)
    p, q = np.array([2 / 3, 1 / 3, 0.0]), np.array([0.25, 0.5, 0.25])
    shown = p > 0
    assert float(scores.entropy.value) == pytest.approx(-(p[shown] * np.log(p[shown])).sum() / math.log(3))
    assert scores.kl.tolist() == pytest.approx([*(p[shown] * np.log(p[shown] / q[shown])), 0.0])
    assert float(scores.result.value) == float(scores.reward.value) == pytest.approx(18 / 5)
    assert float(scores.remaining.value) == pytest.approx(1 / 10)


def test_nothing_done_has_no_behaviour() -> None:
    scores = score_kitchen(outcome([[-1] * 4, [0, -1, -1, -1]]), torch.tensor([[0, 1, 2, 3]]))
    assert float(scores.entropy.value) == 0.0 and not scores.kl.any() and scores.unseen == 0.0
