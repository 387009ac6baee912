"""FrankaKitchen by goals: how many of a demonstration's four sub-tasks does a policy do that was shown its end?

The protocol of Reuss et al., "Goal-conditioned imitation learning using score-based diffusion policies" (BESO), RSS
2023: episodes of 280 steps in the kitchen with all seven sub-tasks; the goal of each is the last two frames of a
demonstration. Goals of the demonstrations that were trained on are the paper's; those of others tell what was
understood from what was remembered.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import rel_entr
from torch import Tensor

from fermo.envs.tasks import franka_kitchen_metrics as metrics
from fermo.envs.tasks.franka_kitchen import FrankaKitchen
from fermo.errors import FermoError
from fermo.training.bench.evaluate import TEST_SEED, evaluate
from fermo.training.bench.goals import GoalPolicy, behaviour_entropy, drawn, shares
from fermo.training.data.reader import Dataset
from fermo.training.demos.kitchen_curation import SEQUENCE_COLUMN, orders_of
from fermo.training.statistics import Interval, bootstrap

FRAMES = 2
"""Consecutive observations that make a goal."""


@dataclass(frozen=True, kw_only=True)
class KitchenGoals:
    """What E demonstrations had brought about in the end.

    Attributes:
        observations: The last two of each, shape ``(E, 2, 30)`` float32.
        orders: Numbers of the sub-tasks that were done, first to last, shape ``(E, 4)`` int64.
    """

    observations: Tensor
    orders: Tensor

    @classmethod
    def of(cls, dataset: Dataset) -> KitchenGoals:
        """The ends of the demonstrations of `dataset`, in their order.

        Raises:
            FermoError: The dataset lacks the column that ``fermo record FrankaKitchen`` writes.
        """
        if SEQUENCE_COLUMN not in dataset.extras:
            raise FermoError(f"the dataset has no column {SEQUENCE_COLUMN!r}; make one with fermo record FrankaKitchen")
        last = np.cumsum(dataset.lengths) - 1
        frames = last[:, None] + np.arange(1 - FRAMES, 1)
        return cls(observations=torch.from_numpy(dataset.observations[frames]),
                   orders=orders_of(torch.from_numpy(dataset.extras[SEQUENCE_COLUMN][last])))  # fmt: skip

    def draw(self, count: int, seed: int) -> KitchenGoals:
        """The first `count` of a random order of them, which begins anew where it ends."""
        chosen = drawn(len(self.orders), count, seed)
        return KitchenGoals(observations=self.observations[chosen], orders=self.orders[chosen])

    def wanted(self) -> Tensor:
        """Which sub-tasks are asked for, ``(E, 7)`` bool."""
        return metrics.one_hot(self.orders).any(dim=1)


@dataclass(frozen=True, kw_only=True)
class KitchenOutcome:
    """What came of N episodes, each with its goal.

    Attributes:
        rewards: How many sub-tasks were done, ``(N,)`` float64, at most 7.
        results: How many of the four wanted ones were, ``(N,)`` float64.
        remaining: Share of the wanted ones' distance from their goals that was left in the end, ``(N,)`` float64.
        orders: Numbers of the first four that were done, ``(N, 4)`` int64; -1 where there were fewer.
        wanted: Orders of the demonstrations that the goals came from, ``(N, 4)`` int64.
        lengths: Control steps, ``(N,)`` int64.
    """

    rewards: Tensor
    results: Tensor
    remaining: Tensor
    orders: Tensor
    wanted: Tensor
    lengths: Tensor


@dataclass(frozen=True, kw_only=True)
class KitchenScores:
    """The benchmark's figures; intervals are bootstraps over the episodes.

    Attributes:
        reward: Mean reward, in [0, 7].
        result: Mean result, in [0, 4].
        remaining: Mean of what remained of the way, 1 where nothing was moved.
        orders: The K orders that were demonstrated, ``(K, 4)``.
        shown: How many episodes went through each of them, ``(K,)``.
        unseen: Share of the episodes with four sub-tasks done whose order nobody demonstrated; 0 where there are none.
        entropy: Behaviour entropy of `shown`, in units of log K: 1 where all orders are equally frequent; 0 where none
            was shown.
        kl: Terms p log(p / q) of the divergence of the shares p of `shown` from the demonstrations' q, one an order,
            ``(K,)`` [nats]; the sum is the divergence. Zero where none was shown.
    """

    reward: Interval
    result: Interval
    remaining: Interval
    orders: NDArray[np.int64]
    shown: NDArray[np.int64]
    unseen: float
    entropy: Interval
    kl: NDArray[np.float64]


def evaluate_kitchen(task: FrankaKitchen, policy: GoalPolicy, goals: KitchenGoals, *, seed: int = TEST_SEED,
                     progress: str = "") -> KitchenOutcome:  # fmt: skip
    """One episode for each goal, all at once.

    Args:
        task: What to do.
        policy: Is reset, told the goals ``(N, 2, 30)``, and acts.
        goals: N of them, for example ``KitchenGoals.of(dataset).draw(100, seed=0)``: of the dataset that was trained
            on, or of one that was not.
        seed: Of the starts, which are not the demonstrations'.
        progress: Title of a progress bar; none when empty.
    """
    count = len(goals.orders)
    policy.reset()
    policy.set_goal(goals.observations)
    outcome = evaluate(task, policy.select_action, episodes=count, seed=seed, record=count, progress=progress)
    qpos, wanted = outcome.qpos.cpu().double(), goals.wanted()
    finishes = metrics.first_finishes(qpos, outcome.lengths, task.config.threshold)
    last = qpos[torch.arange(count), outcome.lengths - 1]
    return KitchenOutcome(rewards=outcome.returns, results=metrics.result(finishes, wanted),
                          remaining=metrics.remaining(qpos[:, 0], last, wanted),
                          orders=metrics.order(finishes), wanted=goals.orders, lengths=outcome.lengths)  # fmt: skip


def score_kitchen(outcome: KitchenOutcome, demonstrated: Tensor, *, seed: int = 0) -> KitchenScores:
    """The figures of `outcome`.

    Args:
        outcome: Of `evaluate_kitchen`.
        demonstrated: Orders of all demonstrations, ``(E, 4)`` int64, for example ``KitchenGoals.of(dataset).orders``.
        seed: Of the bootstrap.
    """
    orders, often = demonstrated.unique(dim=0, return_counts=True)
    one_hot = (outcome.orders[:, None] == orders).all(dim=2).numpy()
    complete, shown = int((outcome.orders >= 0).all(dim=1).sum()), one_hot.sum(axis=0)
    return KitchenScores(
        reward=bootstrap(outcome.rewards.numpy(), seed=seed),
        result=bootstrap(outcome.results.numpy(), seed=seed),
        remaining=bootstrap(outcome.remaining.numpy(), seed=seed),
        orders=orders.numpy(),
        shown=shown,
        unseen=(complete - int(shown.sum())) / max(complete, 1),
        entropy=bootstrap(one_hot, lambda rows, axis: behaviour_entropy(rows.sum(axis=axis)), seed=seed),
        kl=rel_entr(shares(shown), shares(often.numpy())),
    )
