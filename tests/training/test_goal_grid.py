"""The grid for policies with a window: what is counted, which attacks it leaves out, that worlds stay paired."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fermo.envs.tasks.block_push import GOAL_SIGNALS, BlockPush
from fermo.errors import FermoError
from fermo.policies.behavior_cloning import BehaviorCloningPolicy
from fermo.policies.goal_bc.policy import GoalBcPolicy
from fermo.policies.goal_bc.presets import baseline
from fermo.policies.windowed.config import Scaling, TransformerConfig
from fermo.training.bench.block_push import evaluate_goals
from fermo.training.bench.grid import BLOCK_PUSH_GRID, PICK_CUBE_GRID, Axis, run_grid, suited
from fermo.training.bench.grid_counts import WantedPairs
from tests.training.test_block_push_bench import GoalReader, goals

SEED, WORLDS = 3, 4
BLIND = Axis(kind="observation_noise", title="Observation noise", sentence="Nothing can be seen.",
             severities=(0.0, 50.0), normalised=True)  # fmt: skip


class ScriptedPolicy(GoalBcPolicy):
    """The script in the clothes of a policy that is told goals."""

    def __init__(self, scaling: Scaling = "standard") -> None:
        config = baseline("block_push", "regression", goal_signals=GOAL_SIGNALS)
        small = TransformerConfig(layers=1, heads=1, width=4)
        super().__init__(BlockPush().spec, replace(config, transformer=small, observation_scaling=scaling))
        self.reader = GoalReader(BlockPush())

    def set_goal(self, goal: Tensor | None) -> None:
        assert goal is not None
        self.reader.set_goal(goal)

    def select_action(self, obs: Tensor) -> Tensor:
        return self.reader.select_action(obs)


@pytest.fixture(scope="module")
def wanted() -> WantedPairs:
    return WantedPairs(task=BlockPush(), seed=SEED, goals=goals(WORLDS))


def test_where_goals_are_told_their_pairs_are_counted(wanted: WantedPairs) -> None:
    policy = ScriptedPolicy()
    (curve,) = run_grid(wanted.task, {"script": ("Script", policy)}, (BLIND,), worlds=WORLDS, count=wanted).curves
    (series,) = curve.series
    seen, blind = series.successes
    result = evaluate_goals(wanted.task, policy, wanted.goals, seed=SEED).results
    assert series.trials == (2 * WORLDS, 2 * WORLDS)
    assert seen == 2 * float(result.sum()) >= 2 * WORLDS - 2 and blind <= 2


def test_equal_worlds_start_alike_and_are_asked_for_the_same(wanted: WantedPairs) -> None:
    """Worlds 1 and 4 have another goal in another layout each; where they are in the batch is no matter."""
    asked = replace(wanted, goals=goals(8))
    task, chosen = asked.task, torch.tensor([4, 1, 4])  # the script tells even places from odd ones
    found = evaluate_goals(task, ScriptedPolicy(), asked.goals.take(chosen), seed=SEED, worlds=chosen)
    whole = evaluate_goals(task, ScriptedPolicy(), asked.goals, seed=SEED)
    assert torch.equal(found.wanted, asked.goals.modes[chosen]) and torch.equal(found.rewards[0], found.rewards[2])
    for item in ("results", "rewards", "remaining", "lengths"):
        in_turn = getattr(whole, item)[torch.tensor([4, 1])]
        assert torch.equal(getattr(found, item)[:2], in_turn), item


def test_attacks_that_climb_the_gradient_of_a_map_are_left_out_with_a_reason() -> None:
    policy = ScriptedPolicy()
    axes, (reason,) = suited(BLOCK_PUSH_GRID, [policy])
    assert axes == tuple(axis for axis in BLOCK_PUSH_GRID if axis.kind != "gradient_attack")
    assert reason.startswith("gradient_attack is left out") and "goal_bc remembers what it saw" in reason
    with pytest.raises(FermoError, match="gradient_attack is left out"):
        run_grid(BlockPush(), {"script": ("Script", policy)}, BLOCK_PUSH_GRID, worlds=1)


def test_a_map_is_tried_at_everything(near_policy: BehaviorCloningPolicy) -> None:
    assert suited(PICK_CUBE_GRID, [near_policy]) == (PICK_CUBE_GRID, ())


@pytest.mark.parametrize("scaling", ["none", "min_max"])
def test_without_deviations_of_the_data_there_is_no_noise_in_their_units(scaling: Scaling) -> None:
    axes, reasons = suited(BLOCK_PUSH_GRID, [ScriptedPolicy(), ScriptedPolicy(scaling)])
    assert axes == tuple(axis for axis in BLOCK_PUSH_GRID if not axis.normalised)
    assert any(f"observation_scaling {scaling}" in reason for reason in reasons)
