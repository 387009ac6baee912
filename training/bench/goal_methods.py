"""Methods against each other at a task by goals: trained on the same demonstrations, asked for the same goals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from fermo.envs.core.task import Task
from fermo.envs.registry import make_task
from fermo.policies.beso.policy import BesoPolicy
from fermo.training.bench.evaluate import TEST_SEED
from fermo.training.bench.goal_figures import goal_figures
from fermo.training.data.reader import Dataset
from fermo.training.demos.dataset import record_dataset
from fermo.training.fit import fit
from fermo.training.loops.bc_config import BcConfig
from fermo.training.reproduce.registry import Number
from fermo.training.run_folder import RunFolder


@dataclass(frozen=True, kw_only=True)
class Method:
    """One way to learn.

    Attributes:
        family: Of the policy.
        policy: Its config.
        loop: Its training's config; seeds are set for each fit.
    """

    family: str
    policy: Any
    loop: BcConfig


@dataclass(frozen=True, kw_only=True)
class GoalTrials:
    """How policies are scored.

    Attributes:
        rollouts: Episodes of a score.
        evaluations: Sampling steps at which a diffusion policy is scored beside its own.
    """

    rollouts: int = 100
    evaluations: tuple[int, ...] = ()


def record_goal_data(task: str, folder: Path, *, training: int, recoveries: int = 0, held_out: int,
                     seed: int) -> None:  # fmt: skip
    """Demonstrations in ``folder/training``, and others that only give goals in ``folder/held_out``; kept if there.

    Args:
        task: Full name.
        folder: For both.
        training: Demonstrations to learn from.
        recoveries: How many of these are disturbed.
        held_out: Others.
        seed: Of the former; the others have the next.
    """
    parts = (("training", training - recoveries, recoveries, seed), ("held_out", held_out, 0, seed + 1))
    for name, episodes, disturbed, own in parts:
        if not (folder / name).is_dir():
            record_dataset(task, folder / name, episodes=episodes, recoveries=disturbed, seed=own)


def compare_method(method: Method, task: str, data: Path, folder: Path, trials: GoalTrials,
                   seed: int) -> dict[str, Number]:  # fmt: skip
    """Train a method with a seed, or go on with it, and score it as `score_method` does; with first and last loss."""
    policy = fit(data / "training", folder, task=task, family=method.family,
                 policy=replace(method.policy, seed=seed), loop=replace(method.loop, seed=seed))  # fmt: skip
    losses = [loss for _, loss in RunFolder(folder).scalars()["train/loss"]]
    ends = {"first loss": Number(value=losses[0]), "last loss": Number(value=losses[-1])}
    return ends | score_method(policy, task, data, trials, seed)


def score_method(policy: Any, task: str, data: Path, trials: GoalTrials, seed: int) -> dict[str, Number]:
    """The benchmark's figures of a policy.

    Args:
        policy: As of `fermo.training.bench.goals.GoalPolicy`.
        task: Full name.
        data: Folder of `record_goal_data`.
        trials: How to score.
        seed: Of the order of the goals, and of the starts.

    Returns:
        By name: those of `goal_figures` with goals of the training demonstrations; the same and `` held out`` with
        goals of others; and ``result at K`` with K sampling steps.
    """
    made = make_task(task)
    goals = {protocol: Dataset.open(data / name)
             for protocol, name in (("", "training"), (" held out", "held_out"))}  # fmt: skip
    numbers: dict[str, Number] = {}
    for protocol, source in goals.items():
        scores = goal_figures(policy, made, source, rollouts=trials.rollouts, seed=TEST_SEED + seed)
        numbers |= {f"{name}{protocol}": number for name, number in scores.items()}
    for steps in trials.evaluations:
        other = with_sampling_steps(policy, steps)
        scores = goal_figures(other, made, goals[""], rollouts=trials.rollouts, seed=TEST_SEED + seed)
        numbers[f"result at {steps}"] = scores["result"]
    return numbers


def with_sampling_steps(policy: BesoPolicy, steps: int) -> BesoPolicy:
    """The same weights, sampled in as many steps."""
    config = policy.config
    made = type(policy)(policy.spec, replace(config, diffusion=replace(config.diffusion, steps=steps)))
    made.load_state_dict(policy.state_dict())
    return made.eval()


class RandomActions:
    """Uniform within the commands' bounds, whatever the goal; what every method must beat."""

    def __init__(self, task: Task, seed: int) -> None:
        self.low, self.high = (torch.tensor([bound for signal in task.spec.commands for bound in getattr(signal, end)])
                               for end in ("low", "high"))  # fmt: skip
        self.generator = torch.Generator().manual_seed(seed)

    def set_goal(self, goal: torch.Tensor) -> None:
        """It has none."""

    def reset(self, mask: torch.Tensor | None = None) -> None:
        """It remembers nothing."""

    def select_action(self, obs: torch.Tensor) -> torch.Tensor:
        """Shape ``(N, command_size)``."""
        u = torch.rand(len(obs), len(self.low), generator=self.generator)
        return self.low + u * (self.high - self.low)
