"""From a dataset on disk to a checkpoint folder, resumable: what `fermo train`, the demo and reproductions share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fermo.errors import FermoError
from fermo.policies.base import Policy, SolvedPolicy
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.registry import make_policy
from fermo.policies.window import ColumnGoal
from fermo.training.data.goals import column_goals
from fermo.training.data.reader import Dataset
from fermo.training.loops.bc import TrainingInterrupted, train_bc
from fermo.training.loops.bc_config import BcConfig
from fermo.training.loops.processes import Processes
from fermo.training.loops.solve import train_solve
from fermo.training.loops.solve_config import SolveConfig
from fermo.training.loops.state import FILE_NAME


def fit(data: Path, folder: Path, *, task: str, family: str, policy: Any, loop: BcConfig | SolveConfig,
        processes: Processes | None = None) -> Policy:  # fmt: skip
    """Train a policy on every frame of a dataset and leave it in ``folder/checkpoint``.

    Frames of failed episodes count too: what is recorded is always the expert's own answer to what it saw, and failures
    are where recoveries are learned.

    Args:
        data: Dataset folder.
        folder: Gets the loop's state, its metrics and the checkpoint; whatever is there already is continued.
        task: Name noted in the checkpoint.
        family: Policy family.
        policy: The family's config.
        loop: The loop's config: one of descent, or one of solving for a family that is solved.
        processes: Which other processes do the same; only descent knows of them.

    Raises:
        KeyboardInterrupt: Training was interrupted; its state is saved.
        FermoError: What is there already is another training, or another policy's checkpoint.
    """
    processes = processes or Processes()
    checkpoint = folder / "checkpoint"
    there = checkpoint.is_dir()
    processes.wait()  # all must have looked before the first one writes it
    if not there:
        dataset = Dataset.open(data)
        made = make_policy(family, dataset.spec, policy)
        metrics = train_on(made, dataset, folder, loop, processes)
        if processes.first:
            save_checkpoint(made, checkpoint, extra={"task": task, "data": str(data), "metrics": metrics})
        processes.wait()
    found = load_checkpoint(checkpoint)
    if (found.family, found.config) != (family, policy):
        raise FermoError(f"{checkpoint} holds {found.family} with {found.config}; remove it, or choose another folder")
    return found


def train_on(policy: Policy, dataset: Dataset, folder: Path, loop: BcConfig | SolveConfig,
             processes: Processes) -> dict[str, float]:  # fmt: skip
    """Train a policy in place on every frame of a dataset, going on with what `folder` holds; the last metrics."""
    observations, actions = torch.from_numpy(dataset.observations), torch.from_numpy(dataset.actions)
    if isinstance(loop, SolveConfig):
        if not isinstance(policy, SolvedPolicy):
            raise FermoError(f"{policy.family} is trained by descent: give a BcConfig")
        if processes.count > 1:
            raise FermoError(f"{policy.family} is solved in one process: start it without torchrun")
        return train_solve(policy, observations, actions, config=loop).metrics
    if isinstance(policy, SolvedPolicy):
        raise FermoError(f"{policy.family} is solved, not descended to: give a SolveConfig")
    goal = policy.window.goal if policy.window is not None else None
    goals = column_goals(dataset, goal) if isinstance(goal, ColumnGoal) else None
    following = None
    if policy.needs_next_observation:
        following = torch.from_numpy(dataset.observations[dataset.window((1,))[:, 0]])
    try:
        resume = (folder / FILE_NAME).is_file()
        return train_bc(
            policy, observations, actions, config=loop, episode_index=torch.from_numpy(dataset.episode_index),
            goals=goals, next_observations=following, folder=folder, resume=resume, processes=processes,
        ).metrics  # fmt: skip
    except TrainingInterrupted as stopped:
        raise KeyboardInterrupt(str(stopped)) from stopped
