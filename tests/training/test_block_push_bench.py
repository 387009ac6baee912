"""Goals of BlockPush: what they ask for in another layout, and the figures against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fermo.envs.tasks import block_push_metrics as metrics
from fermo.envs.tasks.block_push import GOAL_SIGNALS, BlockPush, BlockPushConfig
from fermo.errors import FermoError
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.beso.presets import default
from fermo.policies.goal_bc.policy import GoalBcPolicy
from fermo.policies.goal_bc.presets import baseline
from fermo.training.bench.block_push import GoalOutcome, Goals, behaviour_entropy, evaluate_goals, score_goals
from fermo.training.data.reader import Dataset
from fermo.training.demos.block_push_curation import MODE_COLUMN, TARGET_COLUMN
from fermo.training.demos.block_push_expert import BlockPusher, BlockPushExpertConfig

SPOTS = torch.tensor([[0.28, 0.2], [0.52, 0.2]], dtype=torch.float64)


class GoalReader:
    """The script as a policy: block by block to the spot that the goal is nearest to, the first as it likes."""

    def __init__(self, task: BlockPush, *, ignore_goal: bool = False) -> None:
        self.task, self.ignore_goal = task, ignore_goal
        self.resets = 0

    def set_goal(self, goal: Tensor) -> None:
        slices = self.task.spec.observation_slices()
        blocks = torch.stack([goal[:, slices[name]] for name in GOAL_SIGNALS], dim=1).double()
        spots = SPOTS.expand(len(blocks), 2, 2)
        nearest = (blocks[:, :, None] - spots[:, None]).norm(dim=3).argmin(dim=2)
        places = spots if self.ignore_goal else spots.gather(1, nearest[:, :, None].expand(-1, -1, 2))
        first = torch.arange(len(blocks)) % 2
        self.pusher = BlockPusher(self.task, places.clone(), first, BlockPushExpertConfig())

    def reset(self, mask: Tensor | None = None) -> None:
        self.resets += 1

    def select_action(self, obs: Tensor) -> Tensor:
        return self.pusher(obs)


def goals(count: int) -> Goals:
    """Every mode in both layouts, over and over; blocks a little short of their targets."""
    number = torch.arange(count)
    modes, flipped = number % 4, (number // 4) % 2 == 1
    targets = torch.where(flipped[:, None, None], SPOTS.flip(0), SPOTS)
    _, target_of = metrics.assignment(modes)
    blocks = targets.gather(1, target_of[:, :, None].expand(-1, -1, 2)) - torch.tensor([0.0, 0.06])
    spec = BlockPush().spec
    observations = torch.zeros(count, spec.observation_size)
    for block, name in enumerate(GOAL_SIGNALS):
        observations[:, spec.observation_slices()[name]] = blocks[:, block].float()
    return Goals(spec=spec, observations=observations, targets=targets, modes=modes)


def test_a_policy_that_heeds_its_goals_has_result_one_and_one_that_does_not_half() -> None:
    """Half the goals ask for the crossing that a policy deaf to them never does."""
    task = BlockPush()
    reader = GoalReader(task)
    heeding = evaluate_goals(task, reader, goals(8), seed=3)
    assert reader.resets == 1
    assert heeding.results.mean() >= 0.9 and heeding.rewards.mean() == pytest.approx(1.0, abs=0.1)
    assert (heeding.modes >= 0).double().mean() >= 0.9
    deaf = evaluate_goals(task, GoalReader(task, ignore_goal=True), goals(8), seed=3)
    assert 0.2 < deaf.results.mean() < 0.8
    assert deaf.rewards.mean() == pytest.approx(1.0, abs=0.1)


@given(flips=st.lists(st.booleans(), min_size=8, max_size=8))
def test_facing_goals_ask_for_the_demonstrations_own_pairs_in_any_layout(flips: list[bool]) -> None:
    shown = goals(8)
    flipped = torch.tensor(flips)[:, None, None]
    targets = torch.where(flipped, shown.targets.flip(1), shown.targets)
    facing = shown.facing(targets)
    asked = metrics.wanted_pairs(facing.blocks(), targets)
    assert torch.equal(asked, metrics.wanted_pairs(shown.blocks(), shown.targets))
    assert torch.equal(facing.observations[~flipped[:, 0, 0]], shown.observations[~flipped[:, 0, 0]])
    assert torch.equal(facing.facing(shown.targets).observations, shown.observations)


def test_a_diffusion_policy_and_its_baselines_take_these_goals() -> None:
    spec, task = BlockPush().spec, BlockPush(BlockPushConfig(episode_s=0.3))
    diffusion = default("block_push", goal_signals=GOAL_SIGNALS)
    regression = baseline("block_push", "regression", goal_signals=GOAL_SIGNALS)
    small = replace(diffusion.network, layers=1, heads=2, width=16)
    assert (regression.transformer, regression.context) == (diffusion.network, diffusion.context)
    assert regression.goal.signals == GOAL_SIGNALS and regression.goal.kind == "future"
    for policy in (
        BesoPolicy(spec, replace(diffusion, network=small)),
        GoalBcPolicy(spec, replace(regression, transformer=small)),
    ):
        found = evaluate_goals(task, policy, goals(4), seed=0)
        assert found.lengths.tolist() == [3] * 4 and found.modes.tolist() == [-1] * 4


def dataset(**extras: np.ndarray) -> Dataset:
    observations = np.arange(50, dtype=np.float32).reshape(5, 10)
    return Dataset(spec=BlockPush().spec, observations=observations, actions=np.zeros((5, 2), np.float32),
                   episode_index=np.array([0, 0, 1, 1, 1]), success=np.ones(2, bool), tasks=("a", "a"),
                   extras=extras)  # fmt: skip


def test_goals_are_the_last_frames_block_positions() -> None:
    columns = {TARGET_COLUMN: np.tile(SPOTS.numpy().reshape(1, 4), (5, 1)), MODE_COLUMN: np.array([1, 1, 2, 2, 2])}
    found = Goals.of(dataset(**columns))
    assert found.blocks().tolist() == [[[10, 11], [13, 14]], [[40, 41], [43, 44]]]
    assert found.modes.tolist() == [1, 2] and torch.equal(found.targets[1], SPOTS)
    drawn = found.draw(5, seed=0)
    assert sorted(drawn.modes[:2].tolist()) == [1, 2] and torch.equal(drawn.modes[2:4], drawn.modes[:2])
    with pytest.raises(FermoError, match="no column 'target_position'"):
        Goals.of(dataset())


def outcome(modes: list[int], results: list[float]) -> GoalOutcome:
    n = torch.tensor(modes)
    values = torch.tensor(results).double()
    return GoalOutcome(rewards=values, results=values, remaining=1 - values, modes=n, wanted=torch.zeros_like(n),
                       lengths=torch.ones_like(n))  # fmt: skip


def test_figures_against_closed_forms() -> None:
    scores = score_goals(outcome([0, 0, 1, -1], [1.0, 0.5, 1.0, 0.0]), [1, 1, 1, 1])
    assert scores.solved.tolist() == [2, 1, 0, 0]
    p, q = np.array([2 / 3, 1 / 3]), 0.25
    assert float(scores.entropy.value) == pytest.approx(-(p * np.log(p)).sum() / math.log(4))
    assert scores.kl.tolist() == pytest.approx([*(p * np.log(p / q)), 0.0, 0.0])
    # From equal shares the divergence is what entropy lacks.
    assert scores.kl.sum() == pytest.approx(math.log(4) * (1 - float(scores.entropy.value)))
    assert float(scores.result.value) == pytest.approx(0.625)
    assert float(scores.remaining.value) == pytest.approx(0.375)
    assert float(scores.result.low) < 0.625 < float(scores.result.high)


def test_nothing_solved_has_no_behaviour() -> None:
    scores = score_goals(outcome([-1, -1], [0.0, 0.5]), [1, 1, 1, 1])
    assert float(scores.entropy.value) == 0.0 and not scores.kl.any() and not scores.solved.any()


@given(counts=st.lists(st.integers(0, 50), min_size=4, max_size=4))
def test_behaviour_entropy_is_between_none_and_all_modes(counts: list[int]) -> None:
    value = float(behaviour_entropy(counts))
    assert -1e-12 <= value <= 1 + 1e-12
    assert (value < 1e-12) == (sum(count > 0 for count in counts) <= 1)
    assert float(behaviour_entropy(counts[::-1])) == pytest.approx(value)
