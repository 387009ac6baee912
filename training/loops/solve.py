"""Training of a policy that is solved: draw samples, solve, say how well."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from fermo.policies.base import SolvedPolicy
from fermo.training.loops.bc import TrainingResult
from fermo.training.loops.demonstrations import check_data
from fermo.training.loops.solve_config import SolveConfig


def train_solve(policy: SolvedPolicy, observations: Tensor, actions: Tensor, *, config: SolveConfig) -> TrainingResult:
    """Solve `policy` in place on demonstrations.

    Args:
        policy: Fresh; its normalisation is fitted to all demonstrations first.
        observations: Shape ``(M, observation_size)``, SI units.
        actions: Shape ``(M, command_size)`` or ``(M, H, command_size)``, SI units.
        config: Settings.

    Raises:
        FermoError: Data or settings are unusable, or the solver gave up.
    """
    observations, actions = observations.float(), actions.float()
    check_data(policy, observations, actions)
    policy.fit_normalization(observations, actions)
    start, total = time.perf_counter(), len(observations)
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(config.seed))[: config.samples].sort().values
    metrics = policy.solve(
        observations[chosen], actions[chosen], tolerance=config.tolerance, max_steps=config.max_steps
    )
    policy.eval()
    return TrainingResult(step=1, metrics=metrics, seconds=time.perf_counter() - start, steps_taken=1)
