"""``beso-kitchen``: BESO and what it is judged against, on the same scripted demonstrations of FrankaKitchen."""

from __future__ import annotations

from dataclasses import replace

from fermo.cli.reproductions.goal_tables import PUBLISHED, REDUCED, GoalTable
from fermo.policies.windowed.config import PerceptronConfig, RelationsConfig
from fermo.training.reproduce.registry import register

TABLE = GoalTable(
    name="beso-kitchen",
    title="FrankaKitchen by goals: BESO and its rivals on the same demonstrations",
    task="fermo/FrankaKitchen-v0",
    preset="kitchen",
    demonstrations=(566, 100),
    published=replace(PUBLISHED, steps=40_000, weight_decay=0.01),
    seeds=1,
    recoveries=424,
    reduced=replace(REDUCED, steps=12_000, batch_size=1024, weight_decay=0.01),
    network=PerceptronConfig(hidden=(512, 512, 512)),
    settings={"context": 1, "relations": RelationsConfig(goal_offset=True)},
    ends=1.0,
    measures=(("kl", "divergence from the demonstrations' orders"), ("unseen", "share of orders nobody showed")),
)

BESO_KITCHEN = register(TABLE.reproduction())
