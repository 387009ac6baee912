"""``fermo record``: demonstrations of a scripted expert, as a LeRobotDataset v3."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from fermo.cli.parsing import parse
from fermo.envs.registry import task_id
from fermo.errors import FermoError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

    from fermo.envs.core.task import Task

INSTRUCTIONS = {"fermo/SO101-PickCube-v0": "Pick up the cube."}
"""Tasks that have a scripted expert, and what it does in plain words."""


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """Record a scripted expert in batched simulation; failures are kept and labelled.

    Attributes:
        task: Which task; it must have a scripted expert.
        folder: The new dataset; ``data/TASK`` when omitted.
        episodes: Undisturbed ones.
        recoveries: Ones whose execution is disturbed, so that the expert shows how to recover; the recorded action is
            always the expert's own.
        disturbance: Standard deviation of that disturbance, for every command, in its unit.
        seed: Of everything random.
    """

    task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
    folder: Path | None = None
    episodes: int = 128
    recoveries: int = 128
    disturbance: float = 0.08
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.episodes, self.recoveries) < 0 or self.episodes + self.recoveries < 1 or self.disturbance < 0:
            raise FermoError("episodes, recoveries and disturbance must not be negative, and one episode is the least")


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(RecordOptions, "record", arguments)
    name = expert_task(options.task)
    folder = options.folder or Path("data") / name.removeprefix("fermo/")
    if folder.exists():
        raise FermoError(f"{folder} exists already; remove it or give another --folder")
    successes, total = record_dataset(
        name, folder, episodes=options.episodes, recoveries=options.recoveries, disturbance=options.disturbance,
        seed=options.seed,
    )  # fmt: skip
    print(f"{folder}: {total} episodes, {successes} of them successful")


def expert_task(name: str) -> str:
    """Full name of a task that has a scripted expert; `FermoError` for others."""
    full = task_id(name)
    if full not in INSTRUCTIONS:
        raise unknown_name("task with a scripted expert", name, [task.removeprefix("fermo/") for task in INSTRUCTIONS])
    return full


def record_dataset(
    name: str, folder: Path, *, episodes: int, recoveries: int, disturbance: float, seed: int
) -> tuple[int, int]:
    """Write a dataset of clean and disturbed demonstrations; returns how many succeeded, of how many."""
    from fermo.envs.registry import make_task
    from fermo.training.data.writer import DatasetWriter
    from fermo.training.demos.record import Disturbance, record_episodes

    task = make_task(name)
    expert = _expert(task)
    kinds: list[tuple[str, int, Any]] = [
        ("demonstrations", episodes, None),
        ("recoveries", recoveries, Disturbance(std=(disturbance,) * task.spec.command_size)),
    ]
    instruction, successes, total = INSTRUCTIONS[name], 0, 0
    with DatasetWriter(folder, spec=task.spec, robot_type="so101", tasks=(instruction,)) as writer:
        for offset, (title, count, disturbed) in enumerate(kinds):
            if not count:
                continue
            # Other seeds for other kinds, or both would start from the same states.
            made = record_episodes(
                task, expert, episodes=count, seed=seed + offset, disturbance=disturbed, progress=title
            )
            for observations, actions, success in zip(made.observations, made.actions, made.success, strict=True):
                writer.add_episode(observations.numpy(), actions.numpy(), success=bool(success), task=instruction)
            successes, total = successes + int(made.success.sum()), total + count
    return successes, total


def _expert(task: Task) -> Callable[[Tensor], Tensor]:
    from fermo.envs.tasks.so101_pick_cube import PickCube
    from fermo.training.demos.pick_cube_expert import PickCubeExpert

    assert isinstance(task, PickCube)
    return PickCubeExpert(task)
