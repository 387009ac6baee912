"""Baselines for the two benchmarks of BESO: its window, goals, scalings and transformer, with another head."""

from __future__ import annotations

from dataclasses import fields

from fermo.policies.beso import presets as beso
from fermo.policies.goal_bc.config import GoalBcConfig, HeadName
from fermo.policies.windowed.config import GoalSourceConfig


def baseline(benchmark: str, head: HeadName, *, goal_signals: tuple[str, ...] = ()) -> GoalBcConfig:
    """What `fermo.policies.beso.presets.default` is without diffusion; ``"behavior_transformer"`` is C-BeT.

    Args:
        benchmark: ``"kitchen"`` or ``"block_push"``.
        head: What the transformer's answers mean.
        goal_signals: Observations that make the goal, all when empty; Block-Push's are its blocks' positions.
    """
    theirs = beso.default(benchmark, goal_signals=goal_signals)
    goal = GoalSourceConfig(**{item.name: getattr(theirs.goal, item.name) for item in fields(GoalSourceConfig)})
    return GoalBcConfig(
        head=head, backbone="transformer", transformer=theirs.network, context=theirs.context, goal=goal,
        observation_scaling=theirs.observation_scaling, action_scaling=theirs.action_scaling,
    )  # fmt: skip
