"""BlockPush by goals: how much of what a demonstration achieved does a policy achieve that was shown its last frame?

The protocol of Reuss et al., "Goal-conditioned imitation learning using score-based diffusion policies" (BESO), RSS
2023: a hundred episodes of 300 steps; the goal of each is where the blocks lay in the last frame of a demonstration.
Goals of the demonstrations that were trained on are the paper's; those of others tell what was understood from what was
remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.tasks import block_push_metrics as metrics
from fermo.envs.tasks.block_push import GOAL_SIGNALS, BlockPush
from fermo.errors import FermoError
from fermo.signal import PlantSpec
from fermo.training.bench.evaluate import TEST_SEED, evaluate
from fermo.training.bench.goals import GoalPolicy, behaviour_entropy, drawn, shares
from fermo.training.data.reader import Dataset
from fermo.training.demos.block_push_curation import MODE_COLUMN, TARGET_COLUMN
from fermo.training.statistics import Interval, bootstrap


@dataclass(frozen=True, kw_only=True)
class Goals:
    """Where E demonstrations left the blocks, and where their targets were.

    Attributes:
        spec: Of the observations.
        observations: The last ones, shape ``(E, observation_size)`` float32.
        targets: Shape ``(E, 2, 2)`` over (target, xy) [m].
        modes: Of the demonstrations, shape ``(E,)`` int64; see `fermo.envs.tasks.block_push_metrics`.
    """

    spec: PlantSpec
    observations: Tensor
    targets: Tensor
    modes: Tensor

    @classmethod
    def of(cls, dataset: Dataset) -> Goals:
        """The goals that the demonstrations of `dataset` reached, in their order.

        Raises:
            FermoError: The dataset lacks the columns that ``fermo record BlockPush`` writes.
        """
        for column in (TARGET_COLUMN, MODE_COLUMN):
            if column not in dataset.extras:
                raise FermoError(f"the dataset has no column {column!r}; make one with fermo record BlockPush")
        last = np.cumsum(dataset.lengths) - 1
        targets = dataset.extras[TARGET_COLUMN][last].reshape(-1, 2, 2)
        return cls(spec=dataset.spec, observations=torch.from_numpy(dataset.observations[last]),
                   targets=torch.from_numpy(targets).double(),
                   modes=torch.from_numpy(dataset.extras[MODE_COLUMN][last].reshape(-1)))  # fmt: skip

    def draw(self, count: int, seed: int) -> Goals:
        """The first `count` of a random order of them, which begins anew where it ends."""
        return self.take(drawn(len(self.modes), count, seed))

    def take(self, chosen: Tensor) -> Goals:
        """Those of the numbers `chosen`, ``(M,)`` int64, in their order."""
        return replace(self, observations=self.observations[chosen], targets=self.targets[chosen],
                       modes=self.modes[chosen])  # fmt: skip

    def blocks(self) -> Tensor:
        """Where the blocks lie [m], ``(E, 2, 2)`` float64 over (block, xy)."""
        slices = self.spec.observation_slices()
        return torch.stack([self.observations[:, slices[name]] for name in GOAL_SIGNALS], dim=1).double()

    def facing(self, targets: Tensor) -> Goals:
        """The goals for worlds with `targets` ``(E, 2, 2)``: the blocks' positions swapped where these are mirrored.

        So block b is asked to go to target t, as in the demonstration, and not to the place where t was then.
        """
        swap = metrics.mirrored(self.targets) != metrics.mirrored(targets)
        observations, slices = self.observations.clone(), self.spec.observation_slices()
        for name, other in zip(GOAL_SIGNALS, reversed(GOAL_SIGNALS), strict=True):
            observations[swap, slices[name]] = self.observations[swap, slices[other]]
        return replace(self, observations=observations, targets=targets)


@dataclass(frozen=True, kw_only=True)
class GoalOutcome:
    """What came of N episodes, each with its goal.

    Attributes:
        rewards: Sum of the rewards, ``(N,)`` float64.
        results: Share of the two wanted pairs of block and target that were achieved, ``(N,)`` float64.
        remaining: Distance of the blocks from the wanted targets in the end, over that at first, ``(N,)`` float64.
        modes: In which way an episode was solved, ``(N,)`` int64; -1 where it was not.
        wanted: Modes of the demonstrations that the goals came from, ``(N,)`` int64.
        lengths: Control steps, ``(N,)`` int64.
    """

    rewards: Tensor
    results: Tensor
    remaining: Tensor
    modes: Tensor
    wanted: Tensor
    lengths: Tensor


@dataclass(frozen=True, kw_only=True)
class GoalScores:
    """The benchmark's figures; intervals are bootstraps over the episodes.

    Attributes:
        reward: Mean reward; about 1 where all is done, more where a block tried both targets.
        result: Mean result, in [0, 1].
        remaining: Mean of what remained of the way, 1 where nothing was moved.
        solved: How many episodes were solved in each mode, ``(4,)``.
        entropy: Behaviour entropy of these, in units of log 4: 1 where all modes are equally frequent; 0 where none was
            solved.
        kl: Terms p log(p / q) of the divergence of their shares p from the demonstrations' q, one a mode, ``(4,)``
            [nats]; the sum is the divergence. Zero where none was solved.
    """

    reward: Interval
    result: Interval
    remaining: Interval
    solved: NDArray[np.int64]
    entropy: Interval
    kl: NDArray[np.float64]


def evaluate_goals(task: BlockPush, policy: GoalPolicy, goals: Goals, *, seed: int = TEST_SEED,
                   perturbations: Sequence[Perturbation] = (), worlds: Tensor | None = None,
                   progress: str = "") -> GoalOutcome:  # fmt: skip
    """One episode for each goal, all at once.

    Args:
        task: What to do.
        policy: Is reset, told the goals, and acts; of what it is told `GOAL_SIGNALS` count.
        goals: N of them, for example ``Goals.of(dataset).draw(100, seed=0)``: of the dataset that was trained on, or of
            one that was not.
        seed: Of the starts and targets, which are not the demonstrations'.
        perturbations: What goes wrong.
        worlds: Number of each episode's world, as of `fermo.training.bench.evaluate.evaluate`.
        progress: Title of a progress bar; none when empty.
    """
    count = len(goals.modes)
    numbers = torch.arange(count) if worlds is None else worlds
    targets = task.draw_targets(WorldRandom(seed, numbers, torch.zeros_like(numbers)))
    asked = goals.facing(targets)
    policy.reset()
    policy.set_goal(asked.observations)
    outcome = evaluate(task, policy.select_action, episodes=count, seed=seed, perturbations=perturbations,
                       worlds=worlds, record=count, progress=progress)  # fmt: skip
    blocks = task.block_positions(outcome.qpos)
    entries = metrics.first_entries(blocks, targets, outcome.lengths, task.config.tolerance)
    wanted = metrics.wanted_pairs(asked.blocks(), targets)
    return GoalOutcome(
        rewards=outcome.returns,
        results=metrics.result(metrics.achieved_pairs(entries), wanted),
        remaining=metrics.remaining(blocks, targets, wanted, outcome.lengths),
        modes=metrics.mode(entries).masked_fill(~outcome.success, -1),
        wanted=goals.modes,
        lengths=outcome.lengths,
    )


def score_goals(outcome: GoalOutcome, demonstrated: ArrayLike, *, seed: int = 0) -> GoalScores:
    """The figures of `outcome`.

    Args:
        outcome: Of `evaluate_goals`.
        demonstrated: How many demonstrations show each mode, or their shares, ``(4,)``, all positive.
        seed: Of the bootstrap.
    """
    modes = outcome.modes.numpy()
    solved = np.bincount(modes[modes >= 0], minlength=metrics.MODES)
    one_hot = modes[:, None] == np.arange(metrics.MODES)
    return GoalScores(
        reward=bootstrap(outcome.rewards.numpy(), seed=seed),
        result=bootstrap(outcome.results.numpy(), seed=seed),
        remaining=bootstrap(outcome.remaining.numpy(), seed=seed),
        solved=solved,
        entropy=bootstrap(one_hot, lambda rows, axis: behaviour_entropy(rows.sum(axis=axis)), seed=seed),
        kl=rel_entr(shares(solved), shares(demonstrated)),
    )
