"""``beso-block-push``: BESO and what it is judged against, on the same scripted demonstrations of BlockPush."""

from __future__ import annotations

from dataclasses import replace

from fermo.cli.reproductions.goal_tables import PUBLISHED, REDUCED, GoalTable
from fermo.policies.windowed.config import TransformerConfig
from fermo.training.reproduce.registry import register

TABLE = GoalTable(
    name="beso-block-push",
    title="BlockPush by goals: BESO and its rivals on the same demonstrations",
    task="fermo/BlockPush-v0",
    preset="block_push",
    goal_signals=("block_1_position", "block_2_position"),
    demonstrations=(1000, 100),
    published=replace(PUBLISHED, steps=60_000),
    reduced=replace(REDUCED, steps=12_000),
    network=TransformerConfig(layers=3, heads=4, width=96),
)

BESO_BLOCK_PUSH = register(TABLE.reproduction())
