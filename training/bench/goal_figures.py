"""The figures of the benchmarks by goals, as numbers with a name, for tables and for the command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from fermo.envs.core.task import Task
from fermo.envs.tasks import block_push_metrics as metrics
from fermo.envs.tasks.block_push import BlockPush
from fermo.envs.tasks.franka_kitchen import FrankaKitchen
from fermo.errors import FermoError
from fermo.training.bench.block_push import Goals, GoalScores, evaluate_goals, score_goals
from fermo.training.bench.franka_kitchen import KitchenGoals, KitchenScores, evaluate_kitchen, score_kitchen
from fermo.training.data.reader import Dataset
from fermo.training.demos.block_push_curation import mode_name
from fermo.training.reproduce.registry import Number
from fermo.training.statistics import Interval


def goal_figures(policy: Any, task: Task, dataset: Dataset, *, rollouts: int, seed: int) -> dict[str, Number]:
    """What a policy achieves of what demonstrations achieved.

    Args:
        policy: As of `fermo.training.bench.goals.GoalPolicy`.
        task: BlockPush or FrankaKitchen.
        dataset: Its demonstrations; goals are their ends.
        rollouts: Episodes, each with a goal drawn from these.
        seed: Of the draw and of the starts.

    Returns:
        By name: ``result``, ``reward``, ``remaining``, ``entropy``, ``kl`` [nats]; at BlockPush the share of each mode
        among the solved episodes; in the kitchen ``unseen``.

    Raises:
        FermoError: The task has no goals, the policy takes none, or the dataset is of another task.
    """
    figures = _FIGURES.get(type(task))
    if figures is None or not hasattr(policy, "set_goal"):
        names = " and ".join(kind.name.removeprefix("fermo/") for kind in _FIGURES)
        who = getattr(policy, "family", "this policy")
        raise FermoError(f"{who} at {task.name} is not scored by goals: that needs one of the tasks {names}, and a "
                         "family that is told what to reach, such as beso with --policy.goal.kind future")  # fmt: skip
    return figures(policy, task, dataset, rollouts, seed)


def _block_push(policy: Any, task: BlockPush, dataset: Dataset, rollouts: int, seed: int) -> dict[str, Number]:
    goals = Goals.of(dataset)
    outcome = evaluate_goals(task, policy, goals.draw(rollouts, seed), seed=seed)
    shown = torch.bincount(goals.modes, minlength=metrics.MODES)
    scores = score_goals(outcome, shown.clamp_min(1).numpy())  # of few demonstrations some mode may be missing
    found = _means(scores, rollouts)
    found["kl"] = Number(value=float(scores.kl.sum()), unit="nat")
    solved = int(scores.solved.sum())
    if solved:
        found |= {f"mode {mode_name(mode)}": Number.rate(int(count), solved)
                  for mode, count in enumerate(scores.solved)}  # fmt: skip
    return found


def _kitchen(policy: Any, task: FrankaKitchen, dataset: Dataset, rollouts: int, seed: int) -> dict[str, Number]:
    goals = KitchenGoals.of(dataset)
    scores = score_kitchen(evaluate_kitchen(task, policy, goals.draw(rollouts, seed), seed=seed), goals.orders)
    others = {"kl": Number(value=float(scores.kl.sum()), unit="nat"), "unseen": Number(value=scores.unseen)}
    return _means(scores, rollouts) | others


_FIGURES: dict[type[Task], Callable[..., dict[str, Number]]] = {BlockPush: _block_push, FrankaKitchen: _kitchen}


def _means(scores: GoalScores | KitchenScores, trials: int) -> dict[str, Number]:
    """What both benchmarks have."""
    return {name: _number(getattr(scores, name), trials) for name in ("result", "reward", "remaining", "entropy")}


def _number(interval: Interval, trials: int) -> Number:
    value, low, high = (float(each) for each in (interval.value, interval.low, interval.high))
    return Number(value=value, low=low, high=high, trials=trials)
