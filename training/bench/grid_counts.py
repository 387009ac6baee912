"""What the robustness grid counts: episodes that succeed or, where goals are told, what is achieved of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from fermo.envs.core.task import Task
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.tasks.block_push import BlockPush
from fermo.policies.base import Policy
from fermo.policies.windowed.policy import WindowedPolicy
from fermo.training.bench.block_push import Goals, evaluate_goals
from fermo.training.bench.evaluate import evaluate


class Count(Protocol):
    """Runs one episode in each of N worlds and counts.

    Attributes:
        each: The most that an episode counts.
    """

    each: ClassVar[int]

    def __call__(self, policy: Policy, worlds: Tensor, perturbations: Sequence[Perturbation] = ()) -> Tensor:
        """What each episode counts, shape ``(N,)``.

        Args:
            policy: Acts.
            worlds: Numbers ``(N,)``; equal ones start alike and are asked for the same.
            perturbations: What goes wrong.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Successes:
    """Whether the task is solved.

    Attributes:
        task: What to do.
        seed: Of the starts and of everything random.
    """

    each: ClassVar[int] = 1
    task: Task
    seed: int

    def __call__(self, policy: Policy, worlds: Tensor, perturbations: Sequence[Perturbation] = ()) -> Tensor:
        """See `Count`."""
        return evaluate(self.task, policy, episodes=len(worlds), seed=self.seed, perturbations=perturbations,
                        worlds=worlds).success  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WantedPairs:
    """How many of the two pairs of block and target are achieved that the goal asks for: twice BlockPush's *result*.

    Attributes:
        task: What to do.
        seed: Of the starts and of everything random.
        goals: World k is told the k-th.
    """

    each: ClassVar[int] = 2
    task: BlockPush
    seed: int
    goals: Goals

    def __call__(self, policy: Policy, worlds: Tensor, perturbations: Sequence[Perturbation] = ()) -> Tensor:
        """See `Count`; the policy is a `WindowedPolicy`."""
        assert isinstance(policy, WindowedPolicy)
        found = evaluate_goals(self.task, policy, self.goals.take(worlds), seed=self.seed, worlds=worlds,
                               perturbations=perturbations)  # fmt: skip
        return (self.each * found.results).round().long()
