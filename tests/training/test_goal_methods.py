"""Methods at BlockPush by goals: the same weights in other steps, the figures' names, and the yardstick of chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fermo.envs.core.task import Task
from fermo.envs.tasks.block_push import GOAL_SIGNALS, BlockPush
from fermo.envs.tasks.cart_pole import CartPole
from fermo.envs.tasks.franka_kitchen import FrankaKitchen
from fermo.errors import FermoError
from fermo.policies.beso.config import TransformerConfig
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.beso.presets import default
from fermo.training.bench.block_push import Goals
from fermo.training.bench.goal_figures import goal_figures
from fermo.training.bench.goal_methods import RandomActions, with_sampling_steps
from fermo.training.data.reader import Dataset
from fermo.training.demos.block_push_curation import MODE_COLUMN, TARGET_COLUMN
from fermo.training.reproduce.registry import Number
from tests.training.test_block_push_bench import GoalReader, goals


def small_policy() -> BesoPolicy:
    network = TransformerConfig(layers=1, heads=2, width=16)
    policy = BesoPolicy(BlockPush().spec, replace(default("block_push", goal_signals=GOAL_SIGNALS), network=network))
    generator = torch.Generator().manual_seed(0)
    policy.fit_normalization(torch.randn(64, 10, generator=generator), torch.randn(64, 2, generator=generator))
    return policy.eval()


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_other_sampling_steps_evaluate_the_same_network_as_often(steps: int) -> None:
    policy = small_policy()
    other = with_sampling_steps(policy, steps)
    assert all(torch.equal(value, policy.state_dict()[name]) for name, value in other.state_dict().items())
    calls = []
    other.network.register_forward_hook(lambda *_: calls.append(1))
    other.set_goal(torch.zeros(1, 10))
    other.predict_action_chunk(torch.zeros(3, 10))
    assert len(calls) == steps


def test_as_many_steps_as_before_give_the_same_actions() -> None:
    policy, obs = small_policy(), torch.randn(5, 10, generator=torch.Generator().manual_seed(1))
    same = with_sampling_steps(policy, policy.config.diffusion.steps)
    for each in (policy, same):
        each.set_goal(torch.zeros(1, 10))
    assert torch.equal(policy.predict_action_chunk(obs), same.predict_action_chunk(obs))


@pytest.mark.parametrize("task", [BlockPush(), FrankaKitchen()], ids=lambda task: task.name)
def test_random_actions_fill_the_commands_bounds_and_repeat(task: Task) -> None:
    drawn = RandomActions(task, 0).select_action(torch.zeros(4096, 10))
    low, high = (torch.cat([torch.tensor(getattr(s, end)) for s in task.spec.commands]) for end in ("low", "high"))
    assert (drawn >= low).all() and (drawn <= high).all()
    assert torch.allclose(drawn.amin(0), low, atol=0.01 * float((high - low).max()))
    assert torch.allclose(drawn.amax(0), high, atol=0.01 * float((high - low).max()))
    assert torch.equal(RandomActions(task, 0).select_action(torch.zeros(4096, 10)), drawn)


def demonstrations(shown: Goals) -> Dataset:
    """A frame each, their last."""
    count = len(shown.modes)
    columns = {TARGET_COLUMN: shown.targets.flatten(1).numpy(), MODE_COLUMN: shown.modes.numpy()}
    return Dataset(spec=shown.spec, observations=shown.observations.numpy(), actions=np.zeros((count, 2), np.float32),
                   episode_index=np.arange(count), success=np.ones(count, bool), tasks=("push",) * count,
                   extras=columns)  # fmt: skip


def test_who_heeds_goals_scores_above_chance_and_the_modes_shares_add_up() -> None:
    task, dataset = BlockPush(), demonstrations(goals(8))
    figures: dict[str, dict[str, Number]] = {}
    for name, policy in (("reader", GoalReader(task)), ("random", RandomActions(task, 0))):
        figures[name] = goal_figures(policy, task, dataset, rollouts=8, seed=3)
    assert figures["reader"]["result"].value >= 0.9 > 0.1 >= figures["random"]["result"].value
    assert figures["reader"]["remaining"].value < 0.4 < figures["random"]["remaining"].value
    shares = [number.value for key, number in figures["reader"].items() if key.startswith("mode ")]
    assert len(shares) == 4 and sum(shares) == pytest.approx(1.0)
    assert not any(key.startswith("mode ") for key in figures["random"])  # nothing solved: no shares
    assert figures["reader"]["kl"].value >= 0.0


def test_goals_of_few_demonstrations_lack_modes_and_the_divergence_stays_finite() -> None:
    task, few = BlockPush(), goals(8)
    keep: Tensor = torch.tensor([0, 4])  # both of the first mode
    few = replace(few, observations=few.observations[keep], targets=few.targets[keep], modes=few.modes[keep])
    assert goal_figures(GoalReader(task), task, demonstrations(few), rollouts=4, seed=3)["kl"].value < 10


def test_a_task_without_goals_and_a_policy_without_them_are_refused() -> None:
    dataset = demonstrations(goals(2))
    for task, policy in ((CartPole(), RandomActions(BlockPush(), 0)), (BlockPush(), object())):
        with pytest.raises(FermoError, match="tasks BlockPush-v0 and FrankaKitchen-v0"):
            goal_figures(policy, task, dataset, rollouts=1, seed=0)
