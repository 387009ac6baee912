"""``beso-block-push``: BESO and what it is judged against, on the same scripted demonstrations of BlockPush."""

from __future__ import annotations

from dataclasses import replace

from fermo.cli.reproductions.goal_tables import PUBLISHED, REDUCED, GoalTable
from fermo.policies.windowed.config import PerceptronConfig, RelationsConfig
from fermo.training.reproduce.registry import register

RELATIONS = RelationsConfig(
    differences=(("effector_target", "block_1_position"), ("effector_target", "block_2_position"),
                 ("effector_target", "effector_position")),
    goal_offset=True, harmonics=5, symmetries=(("block_1_yaw", 4), ("block_2_yaw", 4)),
)  # fmt: skip
"""What a small network is told of how things lie; the published one has sixty million samples to find it out."""

MODES = tuple(f"block {block} to target {target} first" for block in (1, 2) for target in (1, 2))

TABLE = GoalTable(
    name="beso-block-push",
    title="BlockPush by goals: BESO and its rivals on the same demonstrations",
    task="fermo/BlockPush-v0",
    preset="block_push",
    goal_signals=("block_1_position", "block_2_position"),
    demonstrations=(1000, 100),
    published=replace(PUBLISHED, steps=60_000),
    small=("beso", "gcbc", "ddpm", "faithful"),
    recoveries=750,
    reduced=replace(REDUCED, steps=16_000, batch_size=1024),
    network=PerceptronConfig(hidden=(256, 256, 256), activation="relu"),
    settings={"context": 1, "relations": RELATIONS},
    ends=1.0,
    measures=tuple((f"mode {mode}", f"share of {mode}") for mode in MODES),
)

BESO_BLOCK_PUSH = register(TABLE.reproduction())
